-- What is not here any more, and why: partitions of the log that went to an archive, and what left the views after them.

-- Oldest first and without a gap: the log begins where the last of them ends.
CREATE TABLE archived_partitions (
  from_position bigint NOT NULL,
  position bigint NOT NULL,
  name text NOT NULL,
  to_position bigint NOT NULL,     -- exclusive
  events bigint NOT NULL,
  sha256 text NOT NULL,            -- of the archive's file, hex
  CONSTRAINT archived_partitions_pkey PRIMARY KEY (from_position, position)
);
GRANT SELECT ON archived_partitions TO ledger_service;

-- Which rows of tokens, their states and families left, and as of when: a question about a position before it cannot see them.
CREATE TABLE archived_tokens (
  position bigint NOT NULL,
  from_position bigint NOT NULL,
  to_position bigint NOT NULL,     -- exclusive
  ended_before timestamptz NOT NULL,
  CONSTRAINT archived_tokens_pkey PRIMARY KEY (position)
);
GRANT SELECT ON archived_tokens TO ledger_service;

CREATE FUNCTION fold_archived(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO archived_partitions (from_position, position, name, to_position, events, sha256)
    SELECT a.from_position, e.position, a.name, a.to_position, a.events, a.sha256
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload) AS a(name text, from_position bigint, to_position bigint, events bigint, sha256 text)
      WHERE e.position BETWEEN p_from AND p_to AND e.type = 'partition_archived';
  INSERT INTO archived_tokens (position, from_position, to_position, ended_before)
    SELECT e.position, a.from_position, a.to_position, a.ended_before
      FROM history e
      CROSS JOIN LATERAL jsonb_to_record(e.payload) AS a(from_position bigint, to_position bigint, ended_before timestamptz)
      WHERE e.position BETWEEN p_from AND p_to AND e.type = 'tokens_archived';
END $$;
