-- The log as this release reads it: folds, audit and feed read events through the view `history`, never from the table. It is made
-- anew with the folds, so that a release's folds read its own shapes.

-- Put a payload as it was recorded into today's shape of its type (docs/events.md). A function of its arguments alone, and one
-- expression, so that the planner writes it into whatever reads the view. Of a later release's version: as it is.
CREATE FUNCTION upcast(type text, schema_version smallint, payload jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN schema_version = 1 AND type = 'subject_tokens_revoked' THEN payload || '{"reason": null}'
    WHEN schema_version = 1 AND type = 'client_tokens_revoked' THEN jsonb_set(payload || '{"reason": null}', '{client,public_keys}', '[]')
    WHEN schema_version = 2 AND type = 'client_tokens_revoked' THEN jsonb_set(payload, '{client,public_keys}', '[]')
    WHEN schema_version = 1 AND type IN ('client_registered', 'client_changed', 'client_secret_rotated', 'client_suspended', 'client_reinstated')
      THEN jsonb_set(payload, '{client,public_keys}', '[]')
    WHEN schema_version = 1 AND type = 'api_tokens_revoked' THEN jsonb_set(payload || '{"reason": null}', '{api,preflights}', 'false')
    WHEN schema_version = 2 AND type = 'api_tokens_revoked' THEN jsonb_set(payload, '{api,preflights}', 'false')
    WHEN schema_version = 1 AND type IN ('api_registered', 'api_changed', 'api_suspended', 'api_reinstated')
      THEN jsonb_set(payload, '{api,preflights}', 'false')
    ELSE payload
  END
$$;

-- The version of the shape that `upcast` answers.
CREATE FUNCTION upcast_version(type text, schema_version smallint) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN schema_version < 3 AND type IN ('client_tokens_revoked', 'api_tokens_revoked') THEN 3::smallint
    WHEN schema_version = 1 AND type IN ('subject_tokens_revoked', 'client_registered', 'client_changed', 'client_secret_rotated',
        'client_suspended', 'client_reinstated', 'api_registered', 'api_changed', 'api_suspended', 'api_reinstated')
      THEN 2::smallint
    ELSE schema_version
  END
$$;

CREATE VIEW history AS
  SELECT e.position, e.stream, e.version, e.type, upcast_version(e.type, e.schema_version) AS schema_version,
      upcast(e.type, e.schema_version, e.payload) AS payload, e.metadata, e.recorded_at, e.schema_version AS recorded_schema_version
    FROM events e; -- of the log, or of a piece of an archive (archive_reading.py): what the search path finds
GRANT SELECT ON history TO ledger_service;
