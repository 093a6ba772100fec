-- The log as this release reads it: folds, audit and feed read events through this view, never from the table. It is the place where
-- old shapes of an event are put into today's. It is made anew with the folds, so that a release's folds read its own shapes.

CREATE VIEW history AS
  SELECT e.position, e.stream, e.version, e.type, e.schema_version, e.payload, e.metadata, e.recorded_at
    FROM ledger.events e;
GRANT SELECT ON history TO ledger_service;
