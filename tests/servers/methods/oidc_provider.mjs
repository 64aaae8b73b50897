// An authorization server for the tests: `node oidc_provider.mjs FOLDER-OF-OIDC-PROVIDER`.
//
// The first line on standard input has the settings, the others have commands, all in JSON. Each
// is answered with one line on standard output. The server stops when standard input is closed.

import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import * as path from 'node:path';
import * as readline from 'node:readline';
import { pathToFileURL } from 'node:url';

const folder = process.argv[2];
const manifest = JSON.parse(fs.readFileSync(path.join(folder, 'package.json')));
const { default: Provider } = await import(pathToFileURL(path.join(folder, manifest.main)));
// Standard output is for answers. The provider prints notices about its default settings.
console.info = console.warn = console.log = console.error;

const now = Date.now;
let ahead = 0;
Date.now = () => now() + ahead;

const answers = [];
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const settings = JSON.parse((await lines.next()).value);

function listen(server) {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${server.address().port}`));
  });
}

// Requests arrive only after the answer to the settings, so that the provider exists by then.
let serve;
const plain = http.createServer((req, res) => serve(req, res));
const secure = https.createServer(
  { key: settings.key, cert: settings.cert, ca: settings.ca, requestCert: true, rejectUnauthorized: false },
  (req, res) => serve(req, res),
);
const root = `http://${await listen(plain)}`;
const secureRoot = `https://${await listen(secure)}`;

function certificate(ctx) {
  const { raw } = ctx.socket.getPeerCertificate?.() ?? {};
  return raw && `-----BEGIN CERTIFICATE-----\n${raw.toString('base64')}\n-----END CERTIFICATE-----`;
}

const provider = new Provider(root + settings.path, {
  clientAuthMethods: settings.methods,
  enabledJWA: { clientAuthSigningAlgValues: settings.algorithms },
  scopes: settings.scopes,
  ttl: { ClientCredentials: settings.lifetime },
  discovery: {
    mtls_endpoint_aliases: {
      token_endpoint: `${secureRoot}${settings.path}/token`,
      revocation_endpoint: `${secureRoot}${settings.path}/token/revocation`,
    },
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: certificate,
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => (
        property === 'tls_client_auth_san_dns'
        && ctx.socket.getPeerCertificate().subjectaltname === `DNS:${expected}`
      ),
    },
  },
});

// The protected resource. The provider says whether a token is valid.
provider.use(async (ctx, next) => {
  if (ctx.path === '/files') {
    const text = ctx.get('authorization').replace(/^Bearer /i, '');
    const token = text && await provider.ClientCredentials.find(text);
    const thumbprint = token?.['x5t#S256'];
    if (token?.isValid && (!thumbprint || thumbprint === thumbprintOf(certificate(ctx)))) {
      ctx.body = 'files';
    } else {
      ctx.status = 401;
      ctx.set('www-authenticate', text ? 'Bearer error="invalid_token"' : 'Bearer');
    }
  } else {
    await next();
  }
  answers.push([ctx.path, ctx.status]);
});

const { X509Certificate, createHash } = await import('node:crypto');

function thumbprintOf(pem) {
  return pem && createHash('sha256').update(new X509Certificate(pem).raw).digest('base64url');
}

const handle = provider.callback();
serve = (req, res) => {
  // The provider's mount path is the difference of these two.
  req.originalUrl = req.url;
  if (req.url.startsWith(`${settings.path}/`)) {
    req.url = req.url.slice(settings.path.length);
  }
  return handle(req, res);
};

const commands = {
  async register({ metadata }) {
    await provider.Client.adapter.upsert(metadata.client_id, metadata);
  },
  clock({ seconds }) {
    ahead = seconds * 1000;
  },
  answers() {
    return answers;
  },
  forget() {
    answers.length = 0;
  },
};

function say(value) {
  process.stdout.write(`${JSON.stringify(value ?? null)}\n`);
}

say({
  root, secure_root: secureRoot, version: manifest.version, node: process.versions.node,
});
for await (const line of lines) {
  const command = JSON.parse(line);
  say(await commands[command.do](command));
}
process.exit();
