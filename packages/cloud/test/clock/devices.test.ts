import { encodeHeader, encodeLine } from '@millrace/wire';
import { expect, test } from 'vitest';
import { until } from '../../../../tests/support/wait.ts';
import { startTestCloud } from '../support/cloud.ts';

test('a device whose clock is five seconds behind is shown as such', async () => {
  await using cloud = await startTestCloud();
  const key = await cloud.register('slow');
  let first = 1;
  const send = async () => {
    const timestamp = Date.now() - 5000;
    const header = {
      journal: 'journal1',
      first,
      count: 1,
      levels: [0, 1, 0, 0] as [number, number, number, number],
    };
    first++;
    const response = await fetch(`${cloud.url}/device/v2/slow/log-stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: `${encodeHeader({ ...header, sealed: timestamp })}${encodeLine({ message: 'tick', timestamp })}\n`,
    });
    expect(response.status).toBe(201);
  };
  const skew = async () => {
    const { devices } = (await (await cloud.get('/api/v1/devices')).json()) as {
      devices: { clockSkewMs: number | null }[];
    };
    return devices[0]?.clockSkewMs ?? null;
  };
  await send();
  expect(await skew()).toBeNull();
  await until(async () => {
    await send();
    return (await skew()) !== null;
  });
  expect(await skew()).toBeGreaterThanOrEqual(5000);
  expect(await skew()).toBeLessThan(6000);
});
