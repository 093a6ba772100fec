-- People and service accounts: status, clearance, roles, cut-off; their own rules; unique names; the standing administrators.

CREATE TABLE subjects (
  subject_id uuid NOT NULL,
  position bigint NOT NULL,
  kind text NOT NULL,              -- person | service
  name_id uuid,                    -- of the user name, keyed; null: none
  sealed_profile bytea,            -- user name and the like, under the subject's own key
  sealed_password bytea,           -- argon2id, under the subject's own key
  clearance integer NOT NULL,      -- 0 to 100
  role_ids uuid[] NOT NULL,
  cutoff_position bigint NOT NULL, -- tokens issued at or before it are dead
  status text NOT NULL,            -- active | suspended | erased
  status_reason text,
  status_until timestamptz,
  CONSTRAINT subjects_pkey PRIMARY KEY (subject_id, position)
);
GRANT SELECT ON subjects TO ledger_service;

CREATE FUNCTION fold_subjects(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO subjects (subject_id, position, kind, name_id, sealed_profile, sealed_password, clearance, role_ids,
      cutoff_position, status, status_reason, status_until)
    SELECT s.subject_id, e.position, s.kind, s.name_id, decode(s.sealed_profile, 'hex'), decode(s.sealed_password, 'hex'), s.clearance, s.role_ids,
        CASE WHEN (e.payload ->> 'cuts_off')::boolean THEN e.position ELSE s.cutoff_position END, s.status, s.status_reason, s.status_until
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'subject') AS s(subject_id uuid, kind text, name_id uuid, sealed_profile text,
        sealed_password text, clearance integer, role_ids uuid[], cutoff_position bigint, status text, status_reason text, status_until timestamptz)
      WHERE e.position BETWEEN p_from AND p_to
        AND e.type IN ('subject_registered', 'subject_profile_set', 'subject_password_set', 'subject_clearance_set', 'subject_roles_granted',
          'subject_roles_withdrawn', 'subject_suspended', 'subject_reinstated', 'subject_tokens_revoked', 'subject_erased');
END $$;

-- The subject's own rules (individual URLs), all of them in one row: at most 100.
CREATE TABLE subject_rules (
  subject_id uuid NOT NULL,
  position bigint NOT NULL,
  rules jsonb NOT NULL,            -- [{rule_id, api_id, effect, methods, path, min_clearance}]
  CONSTRAINT subject_rules_pkey PRIMARY KEY (subject_id, position)
);
GRANT SELECT ON subject_rules TO ledger_service;

CREATE FUNCTION fold_subject_rules(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO subject_rules (subject_id, position, rules)
    SELECT (e.payload ->> 'subject_id')::uuid, e.position, e.payload -> 'rules'
      FROM history e
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('subject_rules_granted', 'subject_rules_withdrawn');
END $$;

-- Who holds a name that must be unique; a null holder: nobody any more.
CREATE TABLE names (
  name_id uuid NOT NULL,
  position bigint NOT NULL,
  kind text NOT NULL,              -- user | role
  holder_id uuid,
  CONSTRAINT names_pkey PRIMARY KEY (name_id, position)
);
GRANT SELECT ON names TO ledger_service;

CREATE FUNCTION fold_names(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO names (name_id, position, kind, holder_id)
    SELECT (e.payload ->> 'name_id')::uuid, e.position, e.payload ->> 'kind', (e.payload ->> 'holder_id')::uuid
      FROM history e
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('name_taken', 'name_released');
END $$;

-- The subjects that can administer the ledger now; the last one cannot go.
CREATE TABLE administrators (
  position bigint NOT NULL,
  subject_ids uuid[] NOT NULL,
  CONSTRAINT administrators_pkey PRIMARY KEY (position)
);
GRANT SELECT ON administrators TO ledger_service;

CREATE FUNCTION fold_administrators(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO administrators (position, subject_ids)
    SELECT e.position, a.subject_ids
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload) AS a(subject_ids uuid[])
      WHERE e.position BETWEEN p_from AND p_to AND e.type = 'administrators_changed';
END $$;
