URL=${TOKEN_LEDGER_URL:-http://127.0.0.1:8080}
PASSWORD=${ADMIN_PASSWORD:?is not set: export ADMIN_PASSWORD= and what the first start has shown}
send() { curl -sS --fail-with-body -H 'Content-Type: application/json' "$@" && echo; }
member() { .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# 1. Log in as the administrator. The token is good for ten minutes; log in again when it is over.
ADMIN=$(send "$URL/login" -d "{\"username\": \"admin\", \"password\": \"$PASSWORD\"}" | member access_token)
manage() { send -H "Authorization: Bearer $ADMIN" "$@"; }
# Under an Idempotency-Key a request that is sent again is the same command: take the tour as often as you like.
once() { manage -H "Idempotency-Key: tour-$1" "${@:2}"; }

# 2. An API, a role in it, and what the role may do.
once api "$URL/v1/apis" -d '{"name": "orders"}'
once role "$URL/v1/apis/orders/roles" -d '{"name": "reader"}'
once rules "$URL/v1/apis/orders/roles/reader/rules" -d '{"rules": ["allow GET /orders/**", "deny GET /orders/secret"]}'

# 3. An application that people log in through (JWTs, with one-time refresh tokens), and the client the orders API asks as.
once shop "$URL/v1/clients" -d '{"name": "shop", "kind": "public", "grants": ["password", "refresh_token"],
  "strategy": "jwt", "refresh": "rotating", "apis": ["orders"]}'
once asks "$URL/v1/clients" -d '{"name": "orders-api", "kind": "confidential", "grants": [],
  "strategy": "opaque", "refresh": "off", "apis": [], "serves": "orders"}'
# Its secret is shown once, in the answer that made it. A new one takes its place.
SECRET=$(manage -X POST "$URL/v1/clients/orders-api/secret" | member client_secret)

# 4. A person with that role, who logs in.
ALICE=$(once alice "$URL/v1/subjects" -d '{"username": "alice", "password": "correct horse battery"}' | member subject_id)
once roles "$URL/v1/subjects/$ALICE/roles" -d '{"roles": ["orders:reader"]}'
TOKENS=$(send "$URL/login" -d '{"username": "alice", "password": "correct horse battery", "client_id": "shop"}')
TOKEN=$(echo "$TOKENS" | member access_token)
TOKEN_ID=$(echo "$TOKENS" | member token_id)

# 5. What the orders API asks on every request: may this token call this method on this path?
ask() { send -u "orders-api:$SECRET" "$URL/access/v1/evaluation" -d "{\"subject\": {\"type\": \"token\", \"id\": \"$TOKEN\"},
  \"action\": {\"name\": \"$1\"}, \"resource\": {\"type\": \"route\", \"id\": \"$2\"}}"; }
ask GET /orders/7          # decision: true, allowed: by the rule "allow GET /orders/**"
ask DELETE /orders/7       # decision: false, no_rule: nothing allows it
ask GET /orders/secret     # decision: false, denied_by_rule: by the rule "deny GET /orders/secret"

# 6. Take the token back: the very next answer is no, although the signature is good for ten minutes.
manage "$URL/v1/tokens/$TOKEN_ID/revoke" -d '{"reason": "the tour is over"}'
ask GET /orders/7          # decision: false, token_revoked

# 7. What happened to this token: when, what, by whom, and its state after it.
manage "$URL/v1/audit/timeline?token_id=$TOKEN_ID" | .venv/bin/python -m json.tool
