// An OpenID Connect provider for the tests: oidc-provider, with a login page of its own. It reads accounts.json again
// for each request: {NAME: {"password": …, "claims": {…}}}.
import { createServer } from "node:https";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const settings = JSON.parse(readFileSync("settings.json"));
const accounts = () => JSON.parse(readFileSync("accounts.json"));
const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });

const provider = new Provider(settings.issuer, {
  clients: [
    {
      client_id: settings.client_id,
      client_secret: settings.client_secret,
      redirect_uris: settings.hubs.map((hub) => `${hub}/hub/oauth_callback`),
      post_logout_redirect_uris: settings.hubs.map((hub) => `${hub}/hub/login`),
      token_endpoint_auth_method: "client_secret_post",
    },
  ],
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email", "email_verified"] },
  // Some providers state the claims in the ID token as well.
  conformIdTokenClaims: false,
  cookies: { keys: [randomBytes(32).toString("hex")] },
  features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: true } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  jwks: { keys: [{ ...key, use: "sig", alg: "RS256", kid: "tests" }] },
  pkce: { required: () => true },
  findAccount: (_, id) => accounts()[id] && { accountId: id, claims: () => ({ sub: id, ...accounts()[id].claims }) },
  // People are not asked whether the hub may know their name.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId,
      accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope("openid profile email");
    await grant.save();
    return grant;
  },
});
provider.on("server_error", (_, error) => console.error(error));

const page = (uid, problem) => `<!DOCTYPE html><html lang="en"><title>Example ID</title><h1>Example ID</h1>
<p>${problem}</p><form method="post" action="/interaction/${uid}">
<label>Name <input name="name"></label> <label>Secret <input name="password" type="password"></label>
<button name="do" value="enter">Sign in</button> <button name="do" value="cancel">Cancel</button></form></html>`;

async function body(request) {
  let text = "";
  for await (const part of request) text += part;
  return new URLSearchParams(text);
}

async function interact(request, response) {
  const { uid } = await provider.interactionDetails(request, response);
  let problem = "";
  if (request.method === "POST") {
    const form = await body(request);
    if (form.get("do") === "cancel") {
      const error_description = "The person has cancelled <b>it</b>";
      return provider.interactionFinished(request, response, { error: "access_denied", error_description });
    }
    const account = accounts()[form.get("name")];
    if (account && account.password === form.get("password")) {
      return provider.interactionFinished(request, response, { login: { accountId: form.get("name") } });
    }
    problem = "Wrong name or secret";
  }
  response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
  return response.end(page(uid, problem));
}

const serve = provider.callback();
createServer({ key: readFileSync("/srv/directory.key"), cert: readFileSync("/srv/directory.pem") }, (request, response) => {
  if (!request.url.startsWith("/interaction/")) return serve(request, response);
  return interact(request, response).catch((error) => {
    console.error(error);
    response.writeHead(400).end(String(error));
  });
}).listen(9443);
