-- Tokens as issued, what was done to one of them, and the families they belong to.

-- One row a token, written once. `position` is where it was issued.
CREATE TABLE tokens (
  token_id uuid NOT NULL,
  position bigint NOT NULL,
  family_id uuid NOT NULL,
  generation integer NOT NULL,
  kind text NOT NULL,              -- access | refresh
  strategy text NOT NULL,          -- opaque | encrypted | jwt | jwe
  subject_id uuid NOT NULL,
  client_id uuid NOT NULL,
  api_ids uuid[] NOT NULL,         -- the audience
  role_ids uuid[],                 -- the scope; null: every role of the subject
  direct boolean NOT NULL,         -- whether the scope holds the subject's own rules
  secret_digest bytea,             -- SHA-256; null where the string proves itself
  key_ids uuid[] NOT NULL,         -- the keys the string was made with
  name text,                       -- of a named, long-lived token
  claims jsonb,                    -- custom claims
  issued_from uuid,                -- the refresh token it was issued from
  issued_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  CONSTRAINT tokens_pkey PRIMARY KEY (token_id, position)
);
-- Listings walk one of these backwards, and audit finds issues and rotations by them. Tokens issued together have one
-- position: with the id behind it the order is whole, and a page needs no sort.
CREATE INDEX tokens_by_position ON tokens (position, token_id);
CREATE INDEX tokens_by_subject ON tokens (subject_id, position, token_id);
CREATE INDEX tokens_by_client ON tokens (client_id, position, token_id);
CREATE INDEX tokens_by_family ON tokens (family_id, position, token_id);
GRANT SELECT ON tokens TO ledger_service;

CREATE FUNCTION fold_tokens(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO tokens (token_id, position, family_id, generation, kind, strategy, subject_id, client_id, api_ids, role_ids,
      direct, secret_digest, key_ids, name, claims, issued_from, issued_at, expires_at)
    SELECT t.token_id, e.position, t.family_id, t.generation, t.kind, t.strategy, t.subject_id, t.client_id, t.api_ids, t.role_ids,
        t.direct, decode(t.secret_digest, 'hex'), t.key_ids, t.name, nullif(t.claims, 'null'), t.issued_from, t.issued_at, t.expires_at
      FROM history e
      CROSS JOIN LATERAL jsonb_to_recordset(e.payload -> 'tokens') AS t(token_id uuid, family_id uuid, generation integer,
        kind text, strategy text, subject_id uuid, client_id uuid, api_ids uuid[], role_ids uuid[], direct boolean,
        secret_digest text, key_ids uuid[], name text, claims jsonb, issued_from uuid, issued_at timestamptz, expires_at timestamptz)
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('token_issued', 'token_rotated');
END $$;

-- A row each time one token is suspended, reinstated or revoked; none: active.
CREATE TABLE token_states (
  token_id uuid NOT NULL,
  position bigint NOT NULL,
  status text NOT NULL,            -- active | suspended | revoked
  status_reason text,
  status_until timestamptz,        -- the end of a suspension; null: until reinstated
  CONSTRAINT token_states_pkey PRIMARY KEY (token_id, position)
);
GRANT SELECT ON token_states TO ledger_service;

CREATE FUNCTION fold_token_states(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO token_states (token_id, position, status, status_reason, status_until)
    SELECT t.token_id, e.position, t.status, t.status_reason, t.status_until
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'token_state') AS t(token_id uuid, status text, status_reason text, status_until timestamptz)
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('token_suspended', 'token_reinstated', 'token_revoked');
END $$;

-- The whole state of a family each time it changes, the first with its first tokens. A token without refresh is a family of one.
CREATE TABLE families (
  family_id uuid NOT NULL,
  position bigint NOT NULL,
  subject_id uuid NOT NULL,
  client_id uuid NOT NULL,
  refresh text NOT NULL,           -- off | reusable | rotating
  generation integer NOT NULL,     -- of the refresh token that may be used
  refresh_token_id uuid,           -- that token
  access_token_id uuid,            -- issued together with it
  rotated_at timestamptz,          -- when that generation was made from the one before
  retry_epoch bigint,              -- under which retry key
  sealed_rotated_by bytea,         -- network and user agent of whoever rotated, under the subject's own key
  started_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL, -- the absolute end
  idle_expires_at timestamptz,     -- when a reusable refresh token ends unless it is used before; null: another kind
  status text NOT NULL,            -- active | suspended | revoked
  status_reason text,
  status_until timestamptz,
  CONSTRAINT families_pkey PRIMARY KEY (family_id, position)
);
-- What leaves with an archive is found by where it was made. BRIN, which gives no order: along a B-tree of positions the newest
-- row of a family would be looked for as soon as statistics say that there are few families (docs/decisions.md).
CREATE INDEX families_by_position ON families USING brin (position);
GRANT SELECT ON families TO ledger_service;

CREATE FUNCTION fold_families(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO families (family_id, position, subject_id, client_id, refresh, generation, refresh_token_id, access_token_id,
      rotated_at, retry_epoch, sealed_rotated_by, started_at, expires_at, idle_expires_at, status, status_reason, status_until)
    SELECT f.family_id, e.position, f.subject_id, f.client_id, f.refresh, f.generation, f.refresh_token_id, f.access_token_id,
        f.rotated_at, f.retry_epoch, decode(f.sealed_rotated_by, 'hex'), f.started_at, f.expires_at, f.idle_expires_at, f.status, f.status_reason, f.status_until
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'family') AS f(family_id uuid, subject_id uuid, client_id uuid, refresh text,
        generation integer, refresh_token_id uuid, access_token_id uuid, rotated_at timestamptz, retry_epoch bigint, sealed_rotated_by text,
        started_at timestamptz, expires_at timestamptz, idle_expires_at timestamptz, status text, status_reason text, status_until timestamptz)
      WHERE e.position BETWEEN p_from AND p_to AND e.payload -> 'family' <> 'null'
        AND e.type IN ('token_issued', 'token_rotated', 'family_suspended', 'family_reinstated', 'family_revoked', 'reuse_detected');
END $$;

-- What ended leaves with the partitions that are archived: each row for itself, by where it was made and when its token, or its
-- whole family, ended; so what is still there of a token or a family is all that any later moment needs. What was done to a
-- token goes with it. Called when the range's own rows are there, and one event after the other: what the first takes away the
-- second does not see, in one piece as in two.
CREATE FUNCTION fold_tokens_archived(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  archived record;
BEGIN
  FOR archived IN SELECT a.at, a.first, a.until, a.ended_before FROM ended_rows(p_from, p_to) AS a ORDER BY a.at LOOP
    WITH gone AS (
      DELETE FROM tokens t
        WHERE t.position >= archived.first AND t.position < archived.until AND t.expires_at <= archived.ended_before
        RETURNING t.token_id)
    DELETE FROM token_states s USING gone WHERE s.token_id = gone.token_id AND s.position < archived.at;
  END LOOP;
END $$;

CREATE FUNCTION fold_families_archived(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM families f
    USING ended_rows(p_from, p_to) AS a
    WHERE f.position >= a.first AND f.position < a.until AND f.expires_at <= a.ended_before;
END $$;

-- Which rows the events of a range take away: those made at first to before until, and never one of after the event.
CREATE FUNCTION ended_rows(p_from bigint, p_to bigint, OUT at bigint, OUT first bigint, OUT until bigint, OUT ended_before timestamptz)
RETURNS SETOF record LANGUAGE sql AS $$
  SELECT e.position, (e.payload ->> 'from_position')::bigint, least((e.payload ->> 'to_position')::bigint, e.position),
      (e.payload ->> 'ended_before')::timestamptz
    FROM history e
    WHERE e.position BETWEEN p_from AND p_to AND e.type = 'tokens_archived';
$$;
