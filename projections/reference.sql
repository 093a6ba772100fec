-- What changes seldom and is needed by every decision: clients, APIs, roles, their rules, keys. A worker may keep these rows
-- as long as reference_changes shows nothing newer.

CREATE TABLE clients (
  client_id uuid NOT NULL,
  position bigint NOT NULL,
  name text NOT NULL,              -- the client_id of OAuth
  kind text NOT NULL,              -- confidential | public
  secret_digests text[] NOT NULL,  -- SHA-256, hex; two while a secret is being changed
  public_keys jsonb NOT NULL,      -- JWKs by which it proves itself (RFC 7523)
  grants text[] NOT NULL,          -- client_credentials | refresh_token | password | issue
  strategy text NOT NULL,
  refresh text NOT NULL,
  access_lifetime_seconds integer NOT NULL,
  refresh_idle_seconds integer NOT NULL,
  refresh_absolute_seconds integer NOT NULL,
  retry_window_seconds integer NOT NULL,
  revoke_access_on_rotation boolean NOT NULL,
  api_ids uuid[] NOT NULL,         -- the APIs its tokens may be for
  serves_api_id uuid,              -- the API it asks about: a resource server or gateway
  subject_id uuid,                 -- the service account it is under client_credentials
  cutoff_position bigint NOT NULL,
  status text NOT NULL,            -- active | suspended
  status_reason text,
  status_until timestamptz,
  CONSTRAINT clients_pkey PRIMARY KEY (client_id, position)
);
GRANT SELECT ON clients TO ledger_service;

CREATE FUNCTION fold_clients(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO clients (client_id, position, name, kind, secret_digests, public_keys, grants, strategy, refresh, access_lifetime_seconds,
      refresh_idle_seconds, refresh_absolute_seconds, retry_window_seconds, revoke_access_on_rotation, api_ids, serves_api_id, subject_id, cutoff_position,
      status, status_reason, status_until)
    SELECT c.client_id, e.position, c.name, c.kind, c.secret_digests, c.public_keys, c.grants, c.strategy, c.refresh, c.access_lifetime_seconds,
        c.refresh_idle_seconds, c.refresh_absolute_seconds, c.retry_window_seconds, c.revoke_access_on_rotation, c.api_ids, c.serves_api_id, c.subject_id,
        CASE WHEN (e.payload ->> 'cuts_off')::boolean THEN e.position ELSE c.cutoff_position END, c.status, c.status_reason, c.status_until
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'client') AS c(client_id uuid, name text, kind text, secret_digests text[], public_keys jsonb,
        grants text[], strategy text, refresh text, access_lifetime_seconds integer, refresh_idle_seconds integer,
        refresh_absolute_seconds integer, retry_window_seconds integer, revoke_access_on_rotation boolean, api_ids uuid[], serves_api_id uuid, subject_id uuid,
        cutoff_position bigint, status text, status_reason text, status_until timestamptz)
      WHERE e.position BETWEEN p_from AND p_to
        AND e.type IN ('client_registered', 'client_changed', 'client_secret_rotated', 'client_keys_set', 'client_suspended', 'client_reinstated', 'client_tokens_revoked');
END $$;

CREATE TABLE apis (
  api_id uuid NOT NULL,
  position bigint NOT NULL,
  name text NOT NULL,
  audience text NOT NULL,          -- as it stands in `aud`
  semicolons boolean NOT NULL,     -- whether `;` may stand in a path
  preflights boolean NOT NULL,     -- whether OPTIONS passes its gateways without a token
  cutoff_position bigint NOT NULL,
  status text NOT NULL,            -- active | suspended
  status_reason text,
  status_until timestamptz,
  CONSTRAINT apis_pkey PRIMARY KEY (api_id, position)
);
GRANT SELECT ON apis TO ledger_service;

CREATE FUNCTION fold_apis(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO apis (api_id, position, name, audience, semicolons, preflights, cutoff_position, status, status_reason, status_until)
    SELECT a.api_id, e.position, a.name, a.audience, a.semicolons, a.preflights,
        CASE WHEN (e.payload ->> 'cuts_off')::boolean THEN e.position ELSE a.cutoff_position END, a.status, a.status_reason, a.status_until
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'api') AS a(api_id uuid, name text, audience text, semicolons boolean, preflights boolean,
        cutoff_position bigint, status text, status_reason text, status_until timestamptz)
      WHERE e.position BETWEEN p_from AND p_to
        AND e.type IN ('api_registered', 'api_changed', 'api_suspended', 'api_reinstated', 'api_tokens_revoked');
END $$;

CREATE TABLE roles (
  role_id uuid NOT NULL,
  position bigint NOT NULL,
  api_id uuid NOT NULL,
  name text NOT NULL,
  rule_count integer NOT NULL,
  removed boolean NOT NULL,
  CONSTRAINT roles_pkey PRIMARY KEY (role_id, position)
);
GRANT SELECT ON roles TO ledger_service;

CREATE FUNCTION fold_roles(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO roles (role_id, position, api_id, name, rule_count, removed)
    SELECT r.role_id, e.position, r.api_id, r.name, r.rule_count, r.removed
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'role') AS r(role_id uuid, api_id uuid, name text, rule_count integer, removed boolean)
      WHERE e.position BETWEEN p_from AND p_to
        AND e.type IN ('role_created', 'role_rules_granted', 'role_rules_withdrawn', 'role_removed');
END $$;

-- One row a rule and change: a role may hold 10,000.
CREATE TABLE role_rules (
  role_id uuid NOT NULL,
  rule_id uuid NOT NULL,
  position bigint NOT NULL,
  effect text NOT NULL,            -- allow | deny
  methods text[] NOT NULL,
  path text NOT NULL,
  min_clearance integer,           -- null for a deny
  withdrawn boolean NOT NULL,
  CONSTRAINT role_rules_pkey PRIMARY KEY (role_id, rule_id, position)
);
-- A worker takes what changed since it looked.
CREATE INDEX role_rules_by_position ON role_rules (position);
GRANT SELECT ON role_rules TO ledger_service;

CREATE FUNCTION fold_role_rules(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO role_rules (role_id, rule_id, position, effect, methods, path, min_clearance, withdrawn)
    SELECT (e.payload ->> 'role_id')::uuid, r.rule_id, e.position, r.effect, r.methods, r.path, r.min_clearance, e.type = 'role_rules_withdrawn'
      FROM history e
      CROSS JOIN LATERAL jsonb_to_recordset(e.payload -> 'rules') AS r(rule_id uuid, effect text, methods text[], path text, min_clearance integer)
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('role_rules_granted', 'role_rules_withdrawn');
END $$;

CREATE TABLE keys (
  key_id uuid NOT NULL,            -- the kid
  position bigint NOT NULL,
  use text NOT NULL,               -- sig | enc
  algorithm text NOT NULL,
  public_jwk jsonb,                -- null for a secret key
  made_at timestamptz NOT NULL,
  status text NOT NULL,            -- pending | active | retired | revoked
  changed_at timestamptz NOT NULL, -- since when
  status_reason text,              -- why it was revoked
  CONSTRAINT keys_pkey PRIMARY KEY (key_id, position)
);
GRANT SELECT ON keys TO ledger_service;

CREATE FUNCTION fold_keys(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO keys (key_id, position, use, algorithm, public_jwk, made_at, status, changed_at, status_reason)
    SELECT k.key_id, e.position, k.use, k.algorithm, nullif(k.public_jwk, 'null'), k.made_at, k.status,
        k.changed_at, k.status_reason
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'key') AS k(key_id uuid, use text, algorithm text, public_jwk jsonb, made_at timestamptz, status text,
        changed_at timestamptz, status_reason text)
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('key_made', 'key_activated', 'key_retired', 'key_revoked');
END $$;

-- Where reference rows changed: what a worker keeps is current as long as the newest of these is where it was.
CREATE TABLE reference_changes (
  position bigint NOT NULL,
  CONSTRAINT reference_changes_pkey PRIMARY KEY (position)
);
GRANT SELECT ON reference_changes TO ledger_service;

CREATE FUNCTION fold_reference_changes(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reference_changes (position)
    SELECT e.position FROM history e
      WHERE e.position BETWEEN p_from AND p_to AND e.type ~ '^(client|api|role|key)_';
END $$;
