import { expect, test } from 'vitest';
import { startClickHouse } from '../../../../tests/support/clickhouse.ts';
import { freePort } from '../../../../tests/support/ports.ts';
import { until } from '../../../../tests/support/wait.ts';
import { openStore } from '../../src/store/index.ts';
import { append, silent } from './open-stores.ts';

test('a store is not opened before the inserts of a dead process are over', async () => {
  await using server = await startClickHouse();
  let over = false;
  const sql =
    'INSERT INTO FUNCTION null($$x UInt8$$) SELECT sleepEachRow(0.5) FROM numbers(4) SETTINGS max_block_size = 1';
  const leftover = fetch(`${server.url}/?query_id=millrace-insert-left-over`, {
    method: 'POST',
    body: sql.replaceAll('$$', "'"),
  }).then(async (answer) => {
    expect(await answer.text()).toBe('');
    over = true;
  });
  await until(async () => {
    const answer = await fetch(`${server.url}/?query=SELECT+count()+FROM+system.processes`);
    return Number(await answer.text()) > 2;
  });
  await using store = await openStore({ url: server.url, log: silent });
  await until(() => over, { timeoutMs: 100 });
  await leftover;
  await store.ping();
});

test('an insert whose answer is cut off fails only when it is over', async () => {
  await using server = await startClickHouse();
  await using store = await openStore({ url: server.url, log: silent });
  await append(store, [{ message: 'before' }]);
  await server.kill();
  const failing = append(store, [{ message: 'during' }], { firstSeq: 2 });
  let failed = false;
  failing.catch(() => {
    failed = true;
  });
  await expect(store.ping()).rejects.toMatchObject({ code: 'STORE_FAILED' });
  expect(failed).toBe(false);
  await server.start();
  await expect(failing).rejects.toMatchObject({ code: 'STORE_FAILED', rowsRefused: false });
  await append(store, [{ message: 'after' }], { firstSeq: 3 });
  expect(await store.countLines()).toBe(2);
});

test('credentials appear in no error', async () => {
  const url = `http://someone:opensesame@127.0.0.1:${await freePort()}/`;
  const error = await openStore({ url, log: silent }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'STORE_FAILED' });
  expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('opensesame');
  const wrong = await openStore({ url: 'ftp://someone:opensesame@host', log: silent }).catch(
    (thrown: unknown) => thrown,
  );
  expect(wrong).toMatchObject({ code: 'CONFIG_INVALID' });
  expect(String(wrong)).not.toContain('opensesame');
  await expect(openStore({ log: silent })).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  await using server = await startClickHouse();
  const refused = await openStore({
    url: server.url.replace('//', '//someone:opensesame@'),
    log: silent,
  }).catch((thrown: unknown) => thrown);
  expect(refused).toMatchObject({ code: 'STORE_FAILED' });
  expect(String(refused)).not.toContain('opensesame');
});
