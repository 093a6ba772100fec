-- Budgets of password attempts that were spent, as the log was told of them; what is spent now is in ledger.throttles.

CREATE TABLE lockouts (
  lockout_id uuid NOT NULL,
  position bigint NOT NULL,
  kind text NOT NULL,              -- pair (a user from one network) | network | user (from all networks together)
  throttle_id uuid NOT NULL,
  subject_id uuid,
  locked_at timestamptz NOT NULL,
  unlocked boolean NOT NULL,
  CONSTRAINT lockouts_pkey PRIMARY KEY (lockout_id, position)
);
-- Listed newest first.
CREATE INDEX lockouts_by_position ON lockouts (position);
GRANT SELECT ON lockouts TO ledger_service;

CREATE FUNCTION fold_lockouts(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO lockouts (lockout_id, position, kind, throttle_id, subject_id, locked_at, unlocked)
    SELECT l.lockout_id, e.position, l.kind, l.throttle_id, l.subject_id, l.locked_at, l.unlocked
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload -> 'lockout') AS l(lockout_id uuid, kind text, throttle_id uuid, subject_id uuid,
        locked_at timestamptz, unlocked boolean)
      WHERE e.position BETWEEN p_from AND p_to AND e.type IN ('login_locked_out', 'login_unlocked');
END $$;
