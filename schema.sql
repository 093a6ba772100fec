-- The log of Token Ledger: roles, tables, the append. The views that are folded from it: projections/*.sql.
-- Applied once, in one transaction, by `token-ledger init` as a role that may create roles (or as ledger_owner itself,
-- where both roles were made beforehand). Read top to bottom: roles, tables, triggers, partitions, append, grants.

-- ---------------------------------------------------------------------------------------------------------------- roles
-- ledger_owner installs, replays, verifies and owns everything; ledger_service reads, and appends through one function.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_owner') THEN
    CREATE ROLE ledger_owner LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_service') THEN
    CREATE ROLE ledger_service LOGIN;
  END IF;
  IF current_user <> 'ledger_owner' THEN
    EXECUTE format('GRANT CREATE, CONNECT, TEMPORARY ON DATABASE %I TO ledger_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ledger_service', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  END IF;
END $$;
SET ROLE ledger_owner;

CREATE SCHEMA ledger;

-- --------------------------------------------------------------------------------------------------------------- tables
-- Locked by every append, never written: no dead rows, whatever snapshots are open. First come, first served.
CREATE TABLE ledger.append_turn ();

-- The only truth. position is 1, 2, 3, ... without a hole, in commit order.
CREATE TABLE ledger.events (
  position bigint NOT NULL,
  stream uuid NOT NULL,
  version integer NOT NULL,
  type text NOT NULL,
  schema_version smallint NOT NULL,
  payload jsonb NOT NULL,
  metadata jsonb NOT NULL,
  recorded_at timestamptz NOT NULL,
  CONSTRAINT events_pkey PRIMARY KEY (position),
  CONSTRAINT events_position_positive CHECK (position > 0),
  CONSTRAINT events_version_positive CHECK (version > 0)
) PARTITION BY RANGE (position);
-- Audit queries by type walk this backwards from a position.
CREATE INDEX events_by_type ON ledger.events (type, position);

-- The guard of `version`: checked and moved under the turn. Bounds the positions in which a stream is looked for.
CREATE TABLE ledger.streams (
  stream uuid NOT NULL,
  version integer NOT NULL,
  first_position bigint NOT NULL,
  last_position bigint NOT NULL,
  CONSTRAINT streams_pkey PRIMARY KEY (stream)
) WITH (fillfactor = 80);

-- What was done under which command id, so that a command sent twice is done once.
CREATE TABLE ledger.commands (
  command_id uuid NOT NULL,
  first_position bigint NOT NULL,
  last_position bigint NOT NULL,
  CONSTRAINT commands_pkey PRIMARY KEY (command_id)
);

-- One row an append: the head of the log and its time in one index probe each, however many partitions there are.
CREATE TABLE ledger.batches (
  last_position bigint NOT NULL,
  recorded_at timestamptz NOT NULL,
  CONSTRAINT batches_pkey PRIMARY KEY (last_position)
);
-- "The last position recorded at or before an instant".
CREATE INDEX batches_by_time ON ledger.batches (recorded_at, last_position);

CREATE TABLE ledger.partitions (
  name text NOT NULL,
  from_position bigint NOT NULL,
  to_position bigint NOT NULL, -- exclusive
  CONSTRAINT partitions_pkey PRIMARY KEY (from_position)
);

-- Keys sealed under the master key: of subjects (deleting the row erases the person), of signing and of encryption, and the
-- root that ids by HMAC are made under once the master key was changed.
CREATE TABLE ledger.sealed_keys (
  key_id uuid NOT NULL,
  purpose text NOT NULL,
  sealed bytea NOT NULL,
  CONSTRAINT sealed_keys_pkey PRIMARY KEY (key_id),
  CONSTRAINT sealed_keys_purpose CHECK (purpose IN ('subject', 'signing', 'encryption', 'root'))
);

-- The sealed random keys that let a lost answer of a rotation be given again: one for five minutes, gone ten minutes after.
CREATE TABLE ledger.retry_keys (
  epoch bigint NOT NULL,
  sealed bytea NOT NULL,
  CONSTRAINT retry_keys_pkey PRIMARY KEY (epoch)
);

-- Budgets of password attempts (ledger/guessing.py), and the networks people log in from. A row whose `spent_until` has come
-- says nothing any more and may go: the table is bounded by trim_throttles. Ids are keyed: they tell neither name nor address.
CREATE TABLE ledger.throttles (
  throttle_id uuid NOT NULL,
  kind text NOT NULL,
  user_id uuid,                     -- the throttle of the user it belongs to, to unlock all of a user at once
  spent_until timestamptz NOT NULL, -- when the budget is whole again; of a familiar network: when it is forgotten
  locked boolean NOT NULL,          -- an attempt was refused since the budget was last whole
  CONSTRAINT throttles_pkey PRIMARY KEY (throttle_id),
  CONSTRAINT throttles_kind CHECK (kind IN ('pair', 'network', 'user', 'familiar', 'events'))
);
-- What has come to its end, and what comes to it last: each kind is bounded by itself.
CREATE INDEX throttles_by_end ON ledger.throttles (kind, spent_until);
CREATE INDEX throttles_by_user ON ledger.throttles (user_id) WHERE user_id IS NOT NULL;

-- Client assertions that were used, for as long as they would be good (ledger/assertions.py). Ids are made from client and `jti`.
CREATE TABLE ledger.used_assertions (
  assertion_id uuid NOT NULL,
  until timestamptz NOT NULL,
  CONSTRAINT used_assertions_pkey PRIMARY KEY (assertion_id)
);
-- What may be forgotten.
CREATE INDEX used_assertions_by_end ON ledger.used_assertions (until);

-- What `token-ledger verify` found, a row a run that came to its end: for /metrics.
CREATE TABLE ledger.verifications (
  verified_at timestamptz NOT NULL,
  position bigint NOT NULL,        -- up to which
  seconds double precision NOT NULL,
  differences bigint NOT NULL,
  CONSTRAINT verifications_pkey PRIMARY KEY (verified_at)
);

-- ------------------------------------------------------------------------------------------------------------- triggers
-- Append-only is a grant; this is the second net, and holds for the owner too.
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% on %.% is refused: the log is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER commands_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.commands
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER batches_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.batches
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER streams_kept BEFORE DELETE OR TRUNCATE ON ledger.streams
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- ---------------------------------------------------------------------------------------------------------------- clock
-- The one clock: instants of decisions and of `recorded_at` come from here.
CREATE FUNCTION ledger.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- ----------------------------------------------------------------------------------------------------------- partitions
-- Make partitions until at least p_ahead positions above the head have a place; answers how many were made.
-- Never part of an append. Cheap when nothing is to be done: the turn is taken only to make one.
CREATE FUNCTION ledger.make_partitions(p_size bigint DEFAULT 1000000, p_ahead bigint DEFAULT 3000000) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
  wanted bigint;
  edge bigint;
  made integer := 0;
  partition_name text;
BEGIN
  wanted := coalesce((SELECT b.last_position FROM batches b ORDER BY b.last_position DESC LIMIT 1), 0) + p_ahead;
  IF coalesce((SELECT max(p.to_position) FROM partitions p), 0) > wanted THEN
    RETURN 0;
  END IF;
  LOCK TABLE append_turn IN EXCLUSIVE MODE; -- one order of locks: the turn first, then anything
  LOOP
    edge := coalesce((SELECT max(p.to_position) FROM partitions p), 1);
    EXIT WHEN edge > wanted;
    partition_name := format('events_from_%s', edge);
    -- Made apart and then attached: ATTACH holds readers and writers of the log up no more than a moment.
    EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.events INCLUDING CONSTRAINTS INCLUDING INDEXES)', partition_name);
    EXECUTE format('CREATE UNIQUE INDEX %I ON ledger.%I (stream, version)', partition_name || '_stream_version', partition_name);
    -- Statement triggers of a partitioned table do not fire for a statement that names a partition.
    EXECUTE format('CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.%I
      FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', partition_name);
    EXECUTE format('ALTER TABLE ledger.events ATTACH PARTITION ledger.%I FOR VALUES FROM (%s) TO (%s)',
      partition_name, edge, edge + p_size);
    INSERT INTO partitions (name, from_position, to_position) VALUES (partition_name, edge, edge + p_size);
    made := made + 1;
  END LOOP;
  RETURN made;
END $$;

-- ------------------------------------------------------------------------------------------------------------- guessing
-- Rows of throttles are locked in the order of their ids, and to be taken away for want of room only where nobody holds them:
-- whoever waits for one holds none that comes after it.
--
-- Take one attempt from each of these budgets, or from none: all or nothing. A budget is one instant (GCRA): an attempt moves
-- it `p_every` further from now, and may not move it further than `p_every * p_bursts` from now.
-- Where the network is familiar (a live row p_familiar_id), only the first budget is asked, with p_familiar_burst.
-- Answers how long to wait (zero: go ahead, taken from taken_ids), and the ids that were found spent for the first time since
-- they were whole; these only as often as the budget p_events_id allows.
CREATE FUNCTION ledger.take_attempt(
  p_ids uuid[], p_kinds text[], p_user_id uuid, p_bursts integer[], p_every interval[],
  p_familiar_id uuid, p_familiar_burst integer, p_events_id uuid, p_events_burst integer, p_events_every interval,
  OUT wait interval, OUT taken_ids uuid[], OUT locked_ids uuid[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
  instant timestamptz := clock();
  spent uuid[];
BEGIN
  taken_ids := '{}';
  locked_ids := '{}';
  IF (SELECT t.spent_until > instant FROM throttles t WHERE t.throttle_id = p_familiar_id) THEN
    p_ids := p_ids[1:1];
    p_bursts := ARRAY[p_familiar_burst];
  END IF;
  -- Whoever takes from the same budget takes after us; in one order, so that two never wait for each other.
  PERFORM pg_advisory_xact_lock(hashtextextended(k.id::text, 0)) FROM (SELECT i.id FROM unnest(p_ids) AS i(id) ORDER BY i.id) AS k;
  SELECT max(b.excess), array_agg(b.id) INTO wait, spent FROM (
    SELECT k.id, greatest(coalesce((SELECT t.spent_until FROM throttles t WHERE t.throttle_id = k.id), instant), instant)
        + k.every - (instant + k.every * k.burst) AS excess
      FROM unnest(p_ids, p_bursts, p_every[:cardinality(p_ids)]) AS k(id, burst, every)) AS b
    WHERE b.excess > '0';
  IF spent IS NULL THEN
    wait := '0';
    taken_ids := p_ids;
    INSERT INTO throttles AS t (throttle_id, kind, user_id, spent_until, locked)
      SELECT k.id, k.kind, CASE WHEN k.kind IN ('pair', 'user') THEN p_user_id END, instant + k.every, false
        FROM unnest(p_ids, p_kinds[:cardinality(p_ids)], p_every[:cardinality(p_ids)]) AS k(id, kind, every) ORDER BY k.id
      ON CONFLICT (throttle_id) DO UPDATE
        SET spent_until = greatest(t.spent_until, instant) + (excluded.spent_until - instant),
          locked = t.locked AND t.spent_until > instant;
    RETURN;
  END IF;
  -- The log is told of a lock-out once, and of so many in all: an attacker cannot make it grow.
  SELECT coalesce(array_agg(t.throttle_id), '{}') INTO locked_ids FROM throttles t WHERE t.throttle_id = ANY (spent) AND NOT t.locked;
  IF cardinality(locked_ids) = 0 THEN
    RETURN;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended(p_events_id::text, 0));
  IF (SELECT t.spent_until > instant + p_events_every * (p_events_burst - cardinality(locked_ids)) FROM throttles t
      WHERE t.throttle_id = p_events_id) THEN
    locked_ids := '{}';
    RETURN;
  END IF;
  INSERT INTO throttles AS t (throttle_id, kind, user_id, spent_until, locked)
    VALUES (p_events_id, 'events', NULL, instant + p_events_every * cardinality(locked_ids), false)
    ON CONFLICT (throttle_id) DO UPDATE
      SET spent_until = greatest(t.spent_until, instant) + (excluded.spent_until - instant);
  UPDATE throttles t SET locked = true WHERE t.throttle_id = ANY (locked_ids);
END $$;

-- Give one attempt back to each budget that one was taken from (the taken_ids, and no others): it was no guess, or was never
-- looked at.
CREATE FUNCTION ledger.return_attempt(p_ids uuid[], p_every interval[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
  UPDATE throttles t SET spent_until = t.spent_until - k.every
    FROM (SELECT r.throttle_id, i.every FROM unnest(p_ids, p_every) AS i(id, every)
        JOIN throttles r ON r.throttle_id = i.id ORDER BY r.throttle_id FOR UPDATE OF r) AS k
    WHERE t.throttle_id = k.throttle_id;
$$;

-- Remember until when a network is familiar; of one user the p_most that he was seen at last.
CREATE FUNCTION ledger.remember_network(p_familiar_id uuid, p_user_id uuid, p_for interval, p_most integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
  INSERT INTO throttles AS t (throttle_id, kind, user_id, spent_until, locked)
    VALUES (p_familiar_id, 'familiar', p_user_id, clock() + p_for, false)
    ON CONFLICT (throttle_id) DO UPDATE SET spent_until = excluded.spent_until WHERE t.spent_until < excluded.spent_until - p_for / 90;
  DELETE FROM throttles t WHERE t.throttle_id = ANY (ARRAY(
    SELECT r.throttle_id FROM throttles r
      WHERE r.throttle_id IN (SELECT o.throttle_id FROM throttles o
        WHERE o.user_id = p_user_id AND o.kind = 'familiar' AND o.throttle_id <> p_familiar_id
        ORDER BY o.spent_until DESC OFFSET p_most - 1)
      FOR UPDATE SKIP LOCKED));
$$;

-- Make a budget whole, and of a user those of all its pairs.
CREATE FUNCTION ledger.unlock(p_throttle_id uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
  DELETE FROM throttles t WHERE t.throttle_id = ANY (ARRAY(
    SELECT r.throttle_id FROM throttles r
      WHERE r.kind <> 'familiar' AND (r.throttle_id = p_throttle_id OR r.user_id = p_throttle_id)
      ORDER BY r.throttle_id FOR UPDATE));
$$;

-- Take away what says nothing any more, and above p_most of a kind those that soonest will not: the most spent are kept, and a
-- flood of one kind (names that are not there: a user's budget is the slowest to be whole) pushes out no other. What somebody is
-- taking from stays for now.
CREATE FUNCTION ledger.trim_throttles(p_most integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
  DELETE FROM throttles t WHERE t.throttle_id = ANY (ARRAY(
    SELECT r.throttle_id FROM unnest(ARRAY['pair', 'network', 'user', 'familiar', 'events']) AS k(kind)
      JOIN throttles r ON r.kind = k.kind
      WHERE r.spent_until <= greatest(clock(), (SELECT e.spent_until FROM throttles e WHERE e.kind = k.kind
        ORDER BY e.spent_until DESC OFFSET p_most LIMIT 1))
      FOR UPDATE OF r SKIP LOCKED));
$$;

-- ------------------------------------------------------------------------------------------------------------ assertions
-- Use a client assertion, and say whether nobody has: of two uses at once one waits for the other, and is the second. One that has
-- come to its end is not used, for it may be forgotten already.
CREATE FUNCTION ledger.use_assertion(p_assertion_id uuid, p_until timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
BEGIN
  IF p_until <= clock() THEN
    RETURN false;
  END IF;
  INSERT INTO used_assertions (assertion_id, until) VALUES (p_assertion_id, p_until) ON CONFLICT (assertion_id) DO NOTHING;
  RETURN FOUND;
END $$;

-- Forget those that have come to their end.
CREATE FUNCTION ledger.forget_assertions() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
  DELETE FROM used_assertions u WHERE u.assertion_id = ANY (ARRAY(
    SELECT e.assertion_id FROM used_assertions e WHERE e.until <= (SELECT clock()) FOR UPDATE SKIP LOCKED));
$$;

-- --------------------------------------------------------------------------------------------------------------- append
-- Record a batch of commands: one call, one round trip, one transaction, one turn.
--   Command n has the id p_command_ids[n] and the metadata p_metadata[n]; it read the streams r with p_read_of[r] = n at
--   p_read_versions[r] (0: not there), and adds the events e with p_event_of[e] = n, in the order given.
-- Answers one row a command:
--   recorded  its events are at first_position .. last_position, at recorded_at
--   done      the same command id was recorded before, at these positions; nothing is added
--   conflict  a stream it read has another version by now, or an earlier command of this batch writes it: nothing of it
--             is added, read again and decide again
-- Raises, with nothing recorded of the whole batch: another isolation level than READ COMMITTED, an event without its
-- command, a command that writes a stream it did not read, whatever a fold raises.
CREATE FUNCTION ledger.append(
  p_command_ids uuid[], p_metadata jsonb[],
  p_read_of integer[], p_read_streams uuid[], p_read_versions integer[],
  p_event_of integer[], p_event_streams uuid[], p_event_types text[], p_event_schema_versions smallint[], p_event_payloads jsonb[])
RETURNS TABLE (command integer, outcome text, first_position bigint, last_position bigint, recorded_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = views, ledger, pg_temp AS $$
#variable_conflict use_column
DECLARE
  head bigint;
  newest bigint;
  instant timestamptz;
  conflicting integer[];
BEGIN
  -- Versions and head are read after the lock, each statement with a snapshot of its own: under another level they
  -- would be read as of a snapshot taken before it.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'append runs under READ COMMITTED only, not %', current_setting('transaction_isolation')
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
  IF EXISTS (SELECT FROM unnest(p_event_of, p_event_streams) AS w(n, stream)
      WHERE NOT EXISTS (SELECT FROM unnest(p_read_of, p_read_streams) AS r(n, stream) WHERE r.n = w.n AND r.stream = w.stream)) THEN
    RAISE EXCEPTION 'a command writes a stream that it did not read' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF EXISTS (SELECT FROM unnest(p_event_of) AS w(n) WHERE w.n NOT BETWEEN 1 AND cardinality(p_command_ids)) THEN
    RAISE EXCEPTION 'an event without its command' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- Flushed here before it is acknowledged, and never a wait for a standby while the turn is held. Local to the
  -- transaction by set_config: a SET clause of the function would be undone before the commit.
  PERFORM set_config('synchronous_commit', 'local', true);
  LOCK TABLE append_turn IN EXCLUSIVE MODE;

  SELECT b.last_position, greatest(b.recorded_at, clock()) INTO head, instant
    FROM batches b ORDER BY b.last_position DESC LIMIT 1;
  head := coalesce(head, 0);
  instant := coalesce(instant, clock());

  RETURN QUERY
    SELECT i.n::integer, 'done'::text, c.first_position, c.last_position,
        (SELECT b.recorded_at FROM batches b WHERE b.last_position >= c.last_position ORDER BY b.last_position LIMIT 1)
      FROM unnest(p_command_ids) WITH ORDINALITY AS i(id, n)
      CROSS JOIN LATERAL (SELECT k.first_position, k.last_position FROM commands k WHERE k.command_id = i.id OFFSET 0) AS c;

  -- Not to be recorded: done before, said twice in this batch, read at another version, or reading what an earlier
  -- command of the batch writes.
  SELECT coalesce(array_agg(DISTINCT q.n), '{}') INTO conflicting FROM (
    SELECT i.n::integer AS n FROM unnest(p_command_ids) WITH ORDINALITY AS i(id, n)
      WHERE (SELECT true FROM commands c WHERE c.command_id = i.id) OR i.id = ANY (p_command_ids[:i.n - 1])
    UNION ALL
    SELECT r.n FROM unnest(p_read_of, p_read_streams, p_read_versions) AS r(n, stream, version)
      WHERE r.version <> coalesce((SELECT s.version FROM streams s WHERE s.stream = r.stream), 0)
    UNION ALL
    SELECT r.n FROM unnest(p_read_of, p_read_streams) AS r(n, stream)
      JOIN unnest(p_event_of, p_event_streams) AS w(n, stream) ON w.stream = r.stream AND w.n < r.n) AS q;

  RETURN QUERY
    WITH e AS MATERIALIZED (
      SELECT w.n, w.stream, w.type, w.schema_version, w.payload,
          head + row_number() OVER (ORDER BY w.o) AS position,
          coalesce((SELECT s.version FROM streams s WHERE s.stream = w.stream), 0)
            + row_number() OVER (PARTITION BY w.stream ORDER BY w.o) AS version
        FROM unnest(p_event_of, p_event_streams, p_event_types, p_event_schema_versions, p_event_payloads)
          WITH ORDINALITY AS w(n, stream, type, schema_version, payload, o)
        WHERE w.n <> ALL (conflicting)),
    recorded_events AS (
      INSERT INTO events (position, stream, version, type, schema_version, payload, metadata, recorded_at)
        SELECT e.position, e.stream, e.version, e.type, e.schema_version, e.payload, p_metadata[e.n], instant FROM e),
    moved_streams AS (
      INSERT INTO streams (stream, version, first_position, last_position)
        SELECT e.stream, max(e.version), min(e.position), max(e.position) FROM e GROUP BY e.stream
        ON CONFLICT (stream) DO UPDATE SET version = excluded.version, last_position = excluded.last_position),
    recorded_commands AS (
      INSERT INTO commands (command_id, first_position, last_position)
        SELECT p_command_ids[e.n], min(e.position), max(e.position) FROM e GROUP BY e.n),
    recorded_batch AS (
      INSERT INTO batches (last_position, recorded_at)
        SELECT max(e.position), instant FROM e HAVING count(*) > 0)
    SELECT e.n, 'recorded'::text, min(e.position), max(e.position), instant FROM e GROUP BY e.n;

  RETURN QUERY
    SELECT q.n, 'conflict'::text, NULL::bigint, NULL::bigint, NULL::timestamptz FROM unnest(conflicting) AS q(n)
      WHERE (SELECT true FROM commands c WHERE c.command_id = p_command_ids[q.n] AND c.last_position <= head) IS NULL;

  SELECT b.last_position INTO newest FROM batches b ORDER BY b.last_position DESC LIMIT 1;
  IF newest > head THEN
    PERFORM fold(head + 1, newest); -- of the schema `views`: the same function that replay calls
  END IF;
END $$;

-- --------------------------------------------------------------------------------------------------------------- grants
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO ledger_service;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO ledger_service;
REVOKE ALL ON ledger.append_turn FROM ledger_service;
GRANT EXECUTE ON FUNCTION ledger.append, ledger.make_partitions, ledger.clock TO ledger_service;
GRANT EXECUTE ON FUNCTION ledger.take_attempt, ledger.return_attempt, ledger.remember_network, ledger.unlock, ledger.trim_throttles
  TO ledger_service;
GRANT EXECUTE ON FUNCTION ledger.use_assertion, ledger.forget_assertions TO ledger_service;
-- The side tables that are neither log nor view: keys come and go, none is ever changed.
GRANT INSERT, DELETE ON ledger.sealed_keys, ledger.retry_keys TO ledger_service;

SELECT ledger.make_partitions();
RESET ROLE;
