-- Which events concern an entity, for audit queries and timelines. Issues and rotations, the bulk of a log, are found by the
-- position of their tokens instead, so that they cost no row here unless somebody else did them.

CREATE TABLE audit_entries (
  entity_id uuid NOT NULL,
  position bigint NOT NULL,
  CONSTRAINT audit_entries_pkey PRIMARY KEY (entity_id, position)
);
GRANT SELECT ON audit_entries TO ledger_service;

CREATE FUNCTION fold_audit_entries(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_entries (entity_id, position)
    SELECT DISTINCT m.entity_id::uuid, e.position
      FROM history e
      CROSS JOIN LATERAL (VALUES
        (e.payload ->> 'subject_id'), (e.payload ->> 'client_id'), (e.payload ->> 'api_id'), (e.payload ->> 'role_id'), (e.payload ->> 'key_id'),
        (e.payload ->> 'token_id'), (e.payload ->> 'family_id'), (e.payload ->> 'holder_id'), (e.metadata -> 'actor' ->> 'id')
        -- The roles that a subject was granted, or that were withdrawn from it.
        UNION ALL SELECT r.role_id FROM jsonb_array_elements_text(coalesce(e.payload -> 'granted', e.payload -> 'withdrawn')) AS r(role_id)) AS m(entity_id)
      WHERE e.position BETWEEN p_from AND p_to AND e.type NOT IN ('token_issued', 'token_rotated') AND m.entity_id IS NOT NULL
    -- Apart from the others, so that the bulk of a log is not taken to pieces for nothing: a fifth of the time.
    UNION ALL
    SELECT a.id::uuid, e.position
      FROM history e
      CROSS JOIN LATERAL (VALUES (e.metadata -> 'actor' ->> 'id')) AS a(id)
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('token_issued', 'token_rotated') AND a.id IS NOT NULL
        AND a.id IS DISTINCT FROM e.payload ->> 'subject_id' AND a.id IS DISTINCT FROM e.payload ->> 'client_id';
END $$;

-- What was done with a token: by whoever presented it to the ledger's own API.
CREATE TABLE acts (
  token_id uuid NOT NULL,
  position bigint NOT NULL,
  CONSTRAINT acts_pkey PRIMARY KEY (token_id, position)
);
GRANT SELECT ON acts TO ledger_service;

CREATE FUNCTION fold_acts(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO acts (token_id, position)
    SELECT substring(e.metadata -> 'actor' ->> 'authenticated_by' FROM 7)::uuid, e.position
      FROM history e
      WHERE e.position BETWEEN p_from AND p_to AND e.metadata -> 'actor' ->> 'authenticated_by' LIKE 'token %';
END $$;

-- What an event led to: the events of commands that name it as their cause.
CREATE TABLE consequences (
  cause bigint NOT NULL,
  position bigint NOT NULL,
  CONSTRAINT consequences_pkey PRIMARY KEY (cause, position)
);
GRANT SELECT ON consequences TO ledger_service;

CREATE FUNCTION fold_consequences(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO consequences (cause, position)
    SELECT (e.metadata ->> 'causation')::bigint, e.position
      FROM history e
      WHERE e.position BETWEEN p_from AND p_to AND e.metadata ->> 'causation' IS NOT NULL;
END $$;

-- The identity of the log: positions are comparable within one.
CREATE TABLE logs (
  log_id uuid NOT NULL,
  position bigint NOT NULL,
  CONSTRAINT logs_pkey PRIMARY KEY (position)
);
GRANT SELECT ON logs TO ledger_service;

CREATE FUNCTION fold_logs(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO logs (log_id, position)
    SELECT (e.payload ->> 'log_id')::uuid, e.position FROM history e
      WHERE e.position BETWEEN p_from AND p_to AND e.type = 'log_opened';
END $$;
