// Loaded before anything else (node --import): repairs the driver `postgres` while it is read, for every program of this checkout.
//
// When a backend dies (kill -9, a crash of the server), version 3.4.9 sends the rollback of the transaction that was lost to a socket
// that is gone. Nobody can catch that error: it ends the process, here the whole local stack. What waited to be written when a
// connection closed leaves that connection mute for good. And a connection that was lost while somebody had it to himself goes
// back among the open ones: whoever gets it next waits in vain.
import { registerHooks } from 'node:module';

/** By file: what is wrong, and what is put in its place. */
const repairs = {
  '/node_modules/postgres/src/connection.js': [
    [
      `    if (terminated)
      return queryError(q, Errors.connection('CONNECTION_DESTROYED', options))`,
      // True: wherever the pool has put the connection, it stays there.
      `    if (socket === null && !terminated) {
      queryError(q, Errors.connection('CONNECTION_CLOSED', options))
      return true
    }
    if (terminated)
      return queryError(q, Errors.connection('CONNECTION_DESTROYED', options))`,
    ],
    [
      `    incomings = null
    clearImmediate(nextWriteTimer)
`,
      `    incomings = null
    clearImmediate(nextWriteTimer)
    chunk = nextWriteTimer = null
`,
    ],
  ],
  '/node_modules/postgres/src/index.js': [
    [
      `    c.reserved.release = true

    const sql = Sql(handler)
    sql.release = () => {
      c.reserved = null
      onopen(c)
    }

    return sql

    function handler(q) {
`,
      `    c.reserved.release = true
    let lost = null
    c.onclose = error => lost = error

    const sql = Sql(handler)
    sql.release = () => {
      if (lost)
        return
      c.onclose = c.reserved = null
      onopen(c)
    }

    return sql

    function handler(q) {
      if (lost)
        return q.reject(lost)
`,
    ],
  ],
};

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    const list = Object.entries(repairs).find(([file]) => url.endsWith(file))?.[1] ?? [];
    let source = String(loaded.source ?? '');
    // Another version may need no repair, or another one: it is left as it is, and the tests say whether it needs any.
    if (list.length === 0 || !list.every(([wrong]) => source.includes(wrong))) return loaded;
    for (const [wrong, right] of list) source = source.replace(wrong, () => right);
    return { ...loaded, source };
  },
});
