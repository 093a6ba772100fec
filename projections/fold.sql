-- The fold of every view over a range of positions, and the views that people read. Runs last.

-- Insert what the events at p_from .. p_to (both inclusive) say into every view. A function of the range alone: reads no row to
-- make a row, so that any way of cutting a range in pieces gives the same tables. Called by the append with what it has just
-- recorded and by replay with ranges of thousands; a projection that the range has no events for is not called.
-- The views are in two groups that cost about the same. Replay folds a range group by group, on a connection each: together they
-- are the whole.
CREATE FUNCTION fold(p_from bigint, p_to bigint, p_groups text[] DEFAULT '{tokens,others}') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  types text[];
  by_token boolean;
  caused boolean;
BEGIN
  SELECT array_agg(DISTINCT e.type), bool_or(e.metadata -> 'actor' ->> 'authenticated_by' LIKE 'token %'),
      bool_or(e.metadata ->> 'causation' IS NOT NULL)
    INTO types, by_token, caused FROM history e WHERE e.position BETWEEN p_from AND p_to;
  IF 'tokens' = ANY (p_groups) THEN
    IF types && '{token_issued,token_rotated}' THEN
      PERFORM fold_tokens(p_from, p_to);
    END IF;
    IF types && '{token_suspended,token_reinstated,token_revoked}' THEN
      PERFORM fold_token_states(p_from, p_to);
    END IF;
    IF types && '{tokens_archived}' THEN
      PERFORM fold_tokens_archived(p_from, p_to);
    END IF;
  END IF;
  IF 'others' <> ALL (p_groups) THEN
    RETURN;
  END IF;
  IF types && '{token_issued,token_rotated,family_suspended,family_reinstated,family_revoked,reuse_detected}' THEN
    PERFORM fold_families(p_from, p_to);
  END IF;
  PERFORM fold_audit_entries(p_from, p_to);
  IF by_token THEN
    PERFORM fold_acts(p_from, p_to);
  END IF;
  IF caused THEN
    PERFORM fold_consequences(p_from, p_to);
  END IF;
  IF types <@ '{token_issued,token_rotated}' THEN
    RETURN;
  END IF;
  PERFORM fold_subjects(p_from, p_to);
  PERFORM fold_subject_rules(p_from, p_to);
  PERFORM fold_names(p_from, p_to);
  PERFORM fold_administrators(p_from, p_to);
  PERFORM fold_logs(p_from, p_to);
  PERFORM fold_lockouts(p_from, p_to);
  IF types && '{partition_archived,tokens_archived}' THEN
    PERFORM fold_archived(p_from, p_to);
    PERFORM fold_families_archived(p_from, p_to);
  END IF;
  IF EXISTS (SELECT FROM unnest(types) AS t(type) WHERE t.type ~ '^(client|api|role|key)_') THEN
    PERFORM fold_clients(p_from, p_to);
    PERFORM fold_apis(p_from, p_to);
    PERFORM fold_roles(p_from, p_to);
    PERFORM fold_role_rules(p_from, p_to);
    PERFORM fold_keys(p_from, p_to);
    PERFORM fold_reference_changes(p_from, p_to);
  END IF;
END $$;

-- For people and auditors: the tokens that stand at this moment.
CREATE VIEW current_tokens AS
  SELECT t.token_id, t.kind, t.strategy, t.subject_id, t.client_id, t.family_id, t.generation, t.name, t.api_ids, t.role_ids, t.direct,
      t.issued_at, t.expires_at, t.position
    FROM tokens t
    LEFT JOIN LATERAL (SELECT x.status, x.status_until FROM token_states x WHERE x.token_id = t.token_id ORDER BY x.position DESC LIMIT 1) AS ts ON true
    LEFT JOIN LATERAL (SELECT x.status, x.status_until, x.generation, x.idle_expires_at FROM families x WHERE x.family_id = t.family_id ORDER BY x.position DESC LIMIT 1) AS f ON true
    JOIN LATERAL (SELECT x.status, x.status_until, x.cutoff_position FROM subjects x WHERE x.subject_id = t.subject_id ORDER BY x.position DESC LIMIT 1) AS s ON true
    JOIN LATERAL (SELECT x.status, x.status_until, x.cutoff_position FROM clients x WHERE x.client_id = t.client_id ORDER BY x.position DESC LIMIT 1) AS c ON true
    CROSS JOIN (SELECT ledger.clock() AS instant) AS now
    WHERE t.expires_at > now.instant
      AND t.position > greatest(s.cutoff_position, c.cutoff_position)
      AND (t.kind = 'access' OR t.generation = f.generation AND coalesce(f.idle_expires_at > now.instant, true))
      AND (coalesce(ts.status, 'active') = 'active' OR ts.status = 'suspended' AND ts.status_until <= now.instant)
      AND (coalesce(f.status, 'active') = 'active' OR f.status = 'suspended' AND f.status_until <= now.instant)
      AND (s.status = 'active' OR s.status = 'suspended' AND s.status_until <= now.instant)
      AND (c.status = 'active' OR c.status = 'suspended' AND c.status_until <= now.instant)
      AND NOT EXISTS (SELECT FROM unnest(t.api_ids) AS i(api_id) WHERE t.position <=
        (SELECT x.cutoff_position FROM apis x WHERE x.api_id = i.api_id ORDER BY x.position DESC LIMIT 1))
      AND NOT EXISTS (SELECT FROM unnest(t.key_ids) AS i(key_id) WHERE 'revoked' =
        (SELECT x.status FROM keys x WHERE x.key_id = i.key_id ORDER BY x.position DESC LIMIT 1));
GRANT SELECT ON current_tokens TO ledger_service;

-- For people and auditors: which subject may call what, by which role (null: by a rule of its own), at this moment.
CREATE VIEW current_permissions AS
  WITH subject AS (SELECT DISTINCT ON (s.subject_id) s.subject_id, s.role_ids, s.clearance, s.status, s.position FROM subjects s ORDER BY s.subject_id, s.position DESC),
    role AS (SELECT DISTINCT ON (r.role_id) r.role_id, r.api_id, r.name, r.removed FROM roles r ORDER BY r.role_id, r.position DESC),
    rule AS (SELECT DISTINCT ON (r.role_id, r.rule_id) r.role_id, r.effect, r.methods, r.path, r.min_clearance, r.withdrawn, r.position
      FROM role_rules r ORDER BY r.role_id, r.rule_id, r.position DESC),
    own AS (SELECT DISTINCT ON (r.subject_id) r.subject_id, r.rules, r.position FROM subject_rules r ORDER BY r.subject_id, r.position DESC)
  SELECT subject.subject_id, subject.status, subject.clearance, role.api_id, role.role_id, role.name AS role, rule.effect, rule.methods, rule.path, rule.min_clearance, rule.position
    FROM subject JOIN role ON role.role_id = ANY (subject.role_ids) AND NOT role.removed JOIN rule ON rule.role_id = role.role_id AND NOT rule.withdrawn
  UNION ALL
  SELECT subject.subject_id, subject.status, subject.clearance, r.api_id, NULL, NULL, r.effect, r.methods, r.path, r.min_clearance, own.position
    FROM subject JOIN own ON own.subject_id = subject.subject_id
    CROSS JOIN LATERAL jsonb_to_recordset(own.rules) AS r(api_id uuid, effect text, methods text[], path text, min_clearance integer);
GRANT SELECT ON current_permissions TO ledger_service;

DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO ledger_service', current_schema()); END $$;
