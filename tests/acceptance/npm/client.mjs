// An OAuth client that checks strictly (oauth4webapi) and another JOSE implementation (jose), against a running ledger.
// Reads what it needs as JSON on standard input; prints a line for each thing it did; throws at the first that is not right.
import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import * as jose from "jose";
import * as oauth from "oauth4webapi";

const given = JSON.parse(await text(process.stdin));
const insecure = { [oauth.allowInsecureRequests]: true }; // plain HTTP, on a loopback address
const done = (what) => console.log(what);
const bearer = (token) => new Request(given.issuer, { headers: { authorization: `Bearer ${token}` } });

const issuer = new URL(given.issuer);
const as = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }),
);
assert.equal(as.issuer, given.issuer);
done("discovery");

const resource = await oauth.processResourceDiscoveryResponse(issuer, await oauth.resourceDiscoveryRequest(issuer, insecure));
assert.deepEqual(resource.authorization_servers, [given.issuer]);
done("protected resource metadata");

const IMPORT = { EdDSA: { name: "Ed25519" }, ES256: { name: "ECDSA", namedCurve: "P-256" } };
async function authentication(client) {
  if (client.method === "client_secret_basic") return oauth.ClientSecretBasic(client.secret);
  if (client.method === "client_secret_post") return oauth.ClientSecretPost(client.secret);
  const key = await crypto.subtle.importKey("jwk", client.jwk, IMPORT[client.algorithm], false, ["sign"]);
  return oauth.PrivateKeyJwt({ key, kid: client.kid });
}

const keys = jose.createRemoteJWKSet(new URL(as.jwks_uri));
for (const one of given.clients) {
  const [client, auth] = [{ client_id: one.client_id }, await authentication(one)];
  const how = `${one.method}${one.algorithm ? ` ${one.algorithm}` : ""}`;
  const introspected = async (token) =>
    oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, auth, token, insecure));

  const machine = await oauth.processClientCredentialsResponse(
    as,
    client,
    await oauth.clientCredentialsGrantRequest(as, client, auth, { scope: given.scope }, insecure),
  );
  assert.equal(machine.token_type, "bearer"); // as this client writes every type
  assert.equal(machine.scope, given.scope);
  done(`${how}: client_credentials`);

  const claims = await oauth.validateJwtAccessToken(as, bearer(machine.access_token), given.audience, insecure);
  assert.equal(claims.client_id, one.client_id);
  const altered = machine.access_token.replace(/(?<=\.)[^.](?=[^.]*$)/, (c) => (c === "A" ? "B" : "A")); // of the signature
  await assert.rejects(oauth.validateJwtAccessToken(as, bearer(altered), given.audience, insecure));
  await assert.rejects(oauth.validateJwtAccessToken(as, bearer(machine.access_token), "another", insecure));
  done(`${how}: JWT access token by oauth4webapi`);

  const verified = await jose.jwtVerify(machine.access_token, keys, {
    issuer: given.issuer,
    audience: given.audience,
    typ: "at+jwt",
    requiredClaims: ["sub", "iat", "exp", "jti", "client_id"],
  });
  assert.equal(verified.payload.jti, claims.jti);
  await assert.rejects(jose.jwtVerify(altered, keys));
  done(`${how}: JWT access token by jose`);

  const person = await oauth.processGenericTokenEndpointResponse(
    as,
    client,
    await oauth.genericTokenEndpointRequest(
      as,
      client,
      auth,
      "password",
      { username: given.username, password: given.password },
      insecure,
    ),
  );
  done(`${how}: password`);
  const refreshed = await oauth.processRefreshTokenResponse(
    as,
    client,
    await oauth.refreshTokenGrantRequest(as, client, auth, person.refresh_token, insecure),
  );
  assert.notEqual(refreshed.refresh_token, person.refresh_token);
  done(`${how}: refresh_token`);

  assert.equal((await introspected(refreshed.access_token)).active, true);
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, refreshed.refresh_token, insecure));
  assert.deepEqual(await introspected(refreshed.access_token), { active: false });
  done(`${how}: introspection and revocation`);

  const late = await oauth.refreshTokenGrantRequest(as, client, auth, refreshed.refresh_token, insecure);
  await assert.rejects(oauth.processRefreshTokenResponse(as, client, late), { error: "invalid_grant" });
  done(`${how}: the errors`);
}
