-- Batches of issues and of revocations, made up in the server and recorded by `ledger.append`. All that differs between two
-- tokens follows from their numbers, as filling.py computes it too: of a hundred, those of 0 to 4 are revoked, 5 to 9 expired.

-- One row: an issue and a revocation with places for what differs, and to how many people the tokens belong.
CREATE TABLE bench_filling (issued text, revoked text, metadata text, began_ms bigint, subjects bigint);

-- UUIDv7, ten a millisecond.
CREATE FUNCTION bench_id(p_kind text, p_number bigint, p_began_ms bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex(p_began_ms + p_number / 10), 12, '0') || '7' || substr(md5(p_kind || p_number), 1, 3)
    || '8' || substr(md5(p_kind || p_number), 4, 15))::uuid
$$;

-- Answer how many of the tokens of these numbers were issued, each in a family of its own, to a subject whose version is 2.
CREATE FUNCTION bench_issue(p_first bigint, p_until bigint) RETURNS bigint LANGUAGE sql AS $$
  WITH named AS MATERIALIZED (
      SELECT i.n, f.issued, f.metadata,
          bench_id('command', i.n, f.began_ms) AS command_id,
          bench_id('family', i.n, f.began_ms) AS family_id,
          bench_id('token', i.n, f.began_ms) AS token_id,
          bench_id('subject', i.n * 7919 % f.subjects, f.began_ms) AS subject_id,
          to_timestamp((f.began_ms + i.n / 10) / 1000.0) AT TIME ZONE 'UTC' AS issued_at,
          CASE WHEN i.n % 100 BETWEEN 5 AND 9 THEN interval '10 minutes' ELSE interval '90 days' END AS lifetime
        FROM bench_filling f CROSS JOIN generate_series(p_first, p_until - 1) AS i(n)),
    made AS MATERIALIZED (
      SELECT (m.n - p_first + 1)::integer AS o, m.command_id, m.family_id, m.subject_id,
          format(m.metadata, m.command_id)::jsonb AS metadata,
          format(m.issued, m.family_id, m.subject_id, m.token_id, encode(sha256(sha256(('secret' || m.n)::bytea)), 'hex'),
            to_char(m.issued_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            to_char(m.issued_at + m.lifetime, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::jsonb AS payload
        FROM named m)
  SELECT count(*) FROM (
    SELECT array_agg(m.command_id ORDER BY m.o) AS command_ids, array_agg(m.metadata ORDER BY m.o) AS metadata,
        array_agg(m.o ORDER BY m.o) AS numbers, array_agg(m.family_id ORDER BY m.o) AS families,
        array_agg(m.subject_id ORDER BY m.o) AS subjects, array_agg(0 ORDER BY m.o) AS absent,
        array_agg(2 ORDER BY m.o) AS registered, array_agg('token_issued'::text ORDER BY m.o) AS types,
        array_agg(1::smallint ORDER BY m.o) AS shapes, array_agg(m.payload ORDER BY m.o) AS payloads
      FROM made m) AS b
    CROSS JOIN LATERAL ledger.append(b.command_ids, b.metadata, b.numbers || b.numbers, b.families || b.subjects,
      b.absent || b.registered, b.numbers, b.families, b.types, b.shapes, b.payloads) AS a
    WHERE a.outcome = 'recorded'
$$;

-- Answer how many of these tokens were revoked: those that are to be.
CREATE FUNCTION bench_revoke(p_first bigint, p_until bigint) RETURNS bigint LANGUAGE sql AS $$
  WITH named AS MATERIALIZED (
      SELECT (row_number() OVER (ORDER BY i.n))::integer AS o, f.revoked, f.metadata,
          bench_id('revoke', i.n, f.began_ms) AS command_id,
          bench_id('family', i.n, f.began_ms) AS family_id,
          bench_id('token', i.n, f.began_ms) AS token_id,
          bench_id('subject', i.n * 7919 % f.subjects, f.began_ms) AS subject_id
        FROM bench_filling f CROSS JOIN generate_series(p_first, p_until - 1) AS i(n)
        WHERE i.n % 100 < 5),
    made AS MATERIALIZED (
      SELECT m.o, m.command_id, m.family_id, format(m.metadata, m.command_id)::jsonb AS metadata,
          format(m.revoked, m.family_id, m.subject_id, m.token_id)::jsonb AS payload
        FROM named m)
  SELECT count(*) FROM (
    SELECT array_agg(m.command_id ORDER BY m.o) AS command_ids, array_agg(m.metadata ORDER BY m.o) AS metadata,
        array_agg(m.o ORDER BY m.o) AS numbers, array_agg(m.family_id ORDER BY m.o) AS families,
        array_agg(1 ORDER BY m.o) AS issued, array_agg('token_revoked'::text ORDER BY m.o) AS types,
        array_agg(1::smallint ORDER BY m.o) AS shapes, array_agg(m.payload ORDER BY m.o) AS payloads
      FROM made m) AS b
    CROSS JOIN LATERAL ledger.append(b.command_ids, b.metadata, b.numbers, b.families, b.issued, b.numbers, b.families, b.types,
      b.shapes, b.payloads) AS a
    WHERE a.outcome = 'recorded'
$$;
