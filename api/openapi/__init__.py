"""The description of this API (OpenAPI 3.1): what `GET /openapi.json` answers, and the page that is made from it.

How it is made: paths and methods come from the routes of api/app.py and the responders of their resources, summaries from the
responders' docstrings, bodies and their bounds from the models of api/body.py, statuses and codes from the error tree. What
none of them can say stands beside them here, one file an area, in `OPERATIONS`: who may ask, the query's parameters, what is
answered, and which refusals are this operation's own.

How to add an operation: put its route into api/app.py, then a line into the area's `OPERATIONS`:

    ("POST", "/v1/things/{thing_id}/suspend"): Operation(
        "bearer",                       # who asks: operations.WHO
        {200: json_of(thing({"thing_id": ID, "position": POSITION}))},
        body=Suspension,                # the model that read_body is given; `optional_body` where it may be left out
        query=query("cursor", "limit"), # what read_query is given; None where the query is not read
        refuses=(UnknownThing, BuiltIn),
        repeatable=True,                # takes an Idempotency-Key
    ),

What goes without saying is not said: 401, 403, 413, 414, 415, 431, 400 of a body or a query, 422 of an Idempotency-Key, 503.

The tests hold it to be true: routes and operations are the same (tests/test_openapi.py), every answer of the test run fits its
schema (tests/contract.py), and every answer that is described occurred in the run (tests/conftest.py).

Knows nothing of a running service: of a document only the routes.
"""
