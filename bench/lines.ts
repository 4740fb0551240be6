/** Lines for benchmarks: made up, but of the lengths and shapes that services print. */
export interface LineSet {
  texts: string[];
  bytes: Buffer[];
  /** Each as it stands inside a file of Docker's `json-file` driver. */
  escaped: Buffer[];
}

export function realisticLines(): Record<'json' | 'levelLast' | 'text', LineSet> {
  const count = 1000;
  const each = <T>(make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));
  const level = (i: number) => (['info', 'info', 'debug', 'info', 'warn', 'error'] as const)[i % 6];
  const path = (i: number) => `/api/v1/orders/${10_000 + i * 7}/items`;
  const json = each((i) =>
    i % 2 === 0
      ? `{"level":${[30, 30, 20, 40][i % 4]},"time":${1_767_225_600_000 + i},"pid":1,"hostname":"web-7f9c","req":{"id":${i},"method":"GET","url":"${path(i)}"},"res":{"statusCode":200},"responseTime":${i % 97},"msg":"request completed"}`
      : `{"ts":"2026-01-01T00:00:00.${String(i).padStart(3, '0')}Z","level":"${level(i)}","caller":"http/server.go:${i}","msg":"request served","path":"${path(i)}","status":200,"took_ms":${i % 97},"trace":"${(i * 2_654_435_761).toString(16)}"}`,
  );
  const levelLast = each(
    (i) =>
      `{"event":"said \\"${i}\\" things","logger":"app.orders","user":{"id":${i},"name":"Ann"},"path":"${path(i)}","timestamp":"2026-01-01T00:00:00.123456Z","level":"${level(i)}"}`,
  );
  const text = each((i) => {
    const upper = level(i)?.toUpperCase();
    const forms = [
      `2026-01-01 00:00:00.123  ${upper} 1 --- [nio-8080-exec-${i % 10}] c.e.orders.OrderController : GET ${path(i)} took ${i} ms`,
      `time="2026-01-01T00:00:00Z" level=${level(i)} msg="GET ${path(i)}" status=200 took=${i}ms`,
      `10.0.0.${i % 250} - - [01/Jan/2026:00:00:00 +0000] "GET ${path(i)} HTTP/1.1" 200 ${i} "-" "curl/8.5.0"`,
      `[2026-01-01T00:00:00Z ${upper} orders::server] GET ${path(i)} took ${i} ms`,
      `Listening on port ${8000 + i} with ${i} workers, ready for connections`,
      `2026/01/01 00:00:00 [${level(i)}] 29#29: *${i} upstream ${path(i)} answered`,
    ];
    return forms[i % forms.length] as string;
  });
  return { json: setOf(json), levelLast: setOf(levelLast), text: setOf(text) };
}

function setOf(texts: string[]): LineSet {
  return {
    texts,
    bytes: texts.map((text) => Buffer.from(text)),
    escaped: texts.map((text) => Buffer.from(`${JSON.stringify(text).slice(1, -1)}\\n`)),
  };
}
