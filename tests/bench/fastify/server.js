// The same question answered by fastify and better-sqlite3, as those who use them would write it: a hook for the key,
// schemas for parameters, headers and answers, one prepared statement. DATABASE, INTERNAL_API_KEY and PROCESSES come
// from the environment; more than one process are a cluster, whose first one hands the connections out.
'use strict';

const cluster = require('node:cluster');
const crypto = require('node:crypto');
const Database = require('better-sqlite3');
const fastify = require('fastify');

const processes = Number(process.env.PROCESSES ?? 1);

// sessile's own, with names for its parameters.
const COUNT = `
    SELECT count(*) FROM session INDEXED BY session_live
    WHERE tenant_id = :tenant AND user_id = :user AND revoked_at IS NULL
      AND expires_at > :now
      AND (idle_expires_at IS NULL OR idle_expires_at > :now)
      AND (:authenticated_after IS NULL OR coalesce(authenticated_at, created_at) > :authenticated_after)
      AND (:active_after IS NULL OR coalesce(last_active_at, authenticated_at, created_at) > :active_after)`;

const schema = {
  params: {
    type: 'object',
    properties: { user_id: { type: 'string', minLength: 1, maxLength: 256, pattern: '^\\P{Cc}+$' } },
  },
  headers: {
    type: 'object',
    required: ['x-tenant-id'],
    properties: { 'x-tenant-id': { type: 'string', minLength: 1, maxLength: 128, pattern: '^[!-~]+$' } },
  },
  response: {
    200: {
      type: 'object',
      properties: { active: { type: 'boolean' }, session_count: { type: 'integer' } },
    },
  },
};

function build() {
  const database = new Database(process.env.DATABASE, { readonly: true });
  database.pragma('mmap_size = 1000000000');
  const count = database.prepare(COUNT).pluck();
  const key = Buffer.from(process.env.INTERNAL_API_KEY);

  const app = fastify({
    genReqId: () => `req_${crypto.randomUUID()}`,
    routerOptions: { maxParamLength: 3072 },
  });
  app.addHook('onRequest', async (request, reply) => {
    const given = Buffer.from(request.headers['x-api-key'] ?? '');
    if (given.length !== key.length || !crypto.timingSafeEqual(given, key)) {
      return reply.code(401).send({ title: 'Invalid API Key', status: 401 });
    }
  });
  app.get('/internal/session/sessions/:user_id/active', { schema }, (request, reply) => {
    const session_count = count.get({
      tenant: request.headers['x-tenant-id'],
      user: request.params.user_id,
      now: Date.now(),
      authenticated_after: null,
      active_after: null,
    });
    reply
      .header('cache-control', 'no-store')
      .header('x-content-type-options', 'nosniff')
      .header('x-request-id', request.id)
      .send({ active: session_count > 0, session_count });
  });
  return app;
}

if (cluster.isPrimary && processes > 1) {
  let listening = 0;
  cluster.on('listening', (_, { port }) => {
    listening += 1;
    if (listening === processes) console.log(`listening on http://127.0.0.1:${port}`);
  });
  for (let i = 0; i < processes; i += 1) cluster.fork();
} else {
  build().listen({ host: '127.0.0.1', port: 0 }).then((address) => {
    if (cluster.isPrimary) console.log(`listening on ${address}`);
  });
}
