const esc = '\u001b';

/** Each is one message, as programs print it. */
export const traces: Readonly<Record<string, string>> = {
  java: `2026-01-01 00:00:00.123 ERROR 1 --- [main] c.e.Application : it broke
java.lang.IllegalStateException: cannot start
\tat com.example.Main.start(Main.java:12)
\tat com.example.Main.main(Main.java:5)
Caused by: java.io.IOException: disk full
\tat com.example.Disk.write(Disk.java:7)
\t... 1 more`,
  'java main': `Exception in thread "main" java.lang.NullPointerException
\tat Main.main(Main.java:3)
\tSuppressed: java.lang.Exception: x
\t\tat Main.close(Main.java:9)`,
  'java.util.logging': `Jan 01, 2026 12:00:00 AM com.example.Main run
WARNING: it broke
java.io.IOException: disk full
\tat com.example.Disk.write(Disk.java:7)`,
  'java alone': `java.lang.OutOfMemoryError
\tat Main.main(Main.java:3)`,
  python: `Traceback (most recent call last):
  File "/app/main.py", line 2, in <module>
    run()
    ~~~^^
ValueError: broken`,
  'python logging': `ERROR:root:it broke
Traceback (most recent call last):
  File "/app/main.py", line 2, in <module>
    run()
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 4, in <module>
    other()
RuntimeError: also broken`,
  'python syntax': `  File "/app/main.py", line 1
    def f(:
          ^
SyntaxError: invalid syntax`,
  'python interrupt': `Traceback (most recent call last):
  File "/app/main.py", line 2, in <module>
KeyboardInterrupt`,
  node: `/app/index.js:12
    throw new TypeError('x is not a function');
    ^

TypeError: x is not a function
    at run (/app/index.js:12:11)
    at Module._compile (node:internal/modules/cjs/loader:1376:14) {
  code: 'ERR_X'
}

Node.js v24.1.0`,
  'node module': `Error: Cannot find module './x'
Require stack:
- /app/index.js
- /app/main.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/app/index.js' ]
}`,
  'node rejection': `node:internal/process/promises:394
      triggerUncaughtException(err, true /* fromPromise */);
      ^

[UnhandledPromiseRejection: This error originated either by throwing inside of an async function] {
  code: 'ERR_UNHANDLED_REJECTION'
}

Node.js v24.1.0`,
  'node behind text': `Cannot connect: Error: connect ECONNREFUSED 127.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16) {
  errno: -111,
  code: 'ECONNREFUSED'
}`,
  'node logged': `Error: connect ECONNREFUSED 127.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16) {
  errno: -111,
  code: 'ECONNREFUSED',
  [cause]: undefined
}`,
  'go http': `2026/01/01 00:00:00 http: panic serving 127.0.0.1:1: boom
goroutine 19 [running]:
net/http.(*conn).serve.func1()
\t/usr/lib/go/src/net/http/server.go:1898 +0xbe
panic({0x5f1de0?, 0x69cd40?})
\t/usr/lib/go/src/runtime/panic.go:770 +0x132`,
  go: `panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.run({0xc000012345, 0x3, 0x3})
\t/app/main.go:12 +0x1d
main.main()
\t/app/main.go:5 +0x20

goroutine 18 [chan receive]:
net/http.(*conn).serve(0xc0000b2000, {0x6f1b28, 0xc0000a2000})
\t/usr/local/go/src/net/http/server.go:1995 +0x612
created by net/http.(*Server).Serve in goroutine 1
\t/usr/local/go/src/net/http/server.go:3285 +0x4b4
exit status 2`,
  'go signal': `panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48f2a1]

goroutine 1 [running]:
main.main()
\t/app/main.go:8 +0x21`,
  '.net': `Unhandled exception. System.InvalidOperationException: broken
 ---> System.IO.IOException: disk full
   at App.Disk.Write() in /src/Disk.cs:line 7
   --- End of inner exception stack trace ---
   at App.Program.Main(String[] args) in /src/Program.cs:line 5`,
  'asp.net': `fail: Microsoft.AspNetCore.Server.Kestrel[13]
      Connection id "0HM" an unhandled exception was thrown by the application.
      System.NullReferenceException: Object reference not set
         at App.Handler.Run() in /src/Handler.cs:line 3`,
  'asp.net info': `info: Microsoft.Hosting.Lifetime[14]
      Now listening on: http://[::]:8080`,
  ruby: `app.rb:2:in 'Object#run': broken (RuntimeError)
\tfrom app.rb:5:in '<main>'`,
  'ruby before 3.4': `/app/app.rb:2:in \`run': broken (RuntimeError)
\tfrom /app/app.rb:5:in \`<main>'`,
  rust: `thread 'main' panicked at src/main.rs:2:5:
index out of bounds: the len is 3 but the index is 5
stack backtrace:
   0: rust_begin_unwind
             at /rustc/1a2b/library/std/src/panicking.rs:645:5
   1: app::main
note: Some details are omitted, run with \`RUST_BACKTRACE=full\` for a verbose backtrace.`,
  'rust before 1.73': `thread 'main' panicked at 'broken', src/main.rs:2:5
note: run with \`RUST_BACKTRACE=1\` environment variable to display a backtrace`,
  php: `PHP Fatal error:  Uncaught Exception: broken in /app/a.php:3
Stack trace:
#0 /app/b.php(7): run()
#1 {main}
  thrown in /app/a.php on line 3`,
  indented: `Configuration:
  port: 8080
  hosts:
    - a
    - b`,
  tabs: 'usage: app\n\t-v\tverbose\n\t-q\tquiet',
  'java message': `2026-01-01 00:00:00.123 ERROR 1 --- [main] c.e.Application : it broke
java.lang.IllegalStateException: cannot start
the disk is full

  and so is the other
\tat com.example.Main.start(Main.java:12)
Caused by: java.io.IOException: disk full:
/dev/sda1
\tat com.example.Disk.write(Disk.java:7)
\t... 1 more`,
  'java message, logback': `org.postgresql.util.PSQLException: ERROR: duplicate key
Detail: Key (id)=(1) already exists.
\tat org.postgresql.core.v3.QueryExecutorImpl.receive(QueryExecutorImpl.java:2713) ~[postgresql-42.7.jar:42.7]
\tat java.base/java.lang.Thread.run(Thread.java:840) ~[na:na]`,
  'java message, native': `Exception in thread "main" java.lang.Error: first
second
\tat java.base/jdk.internal.misc.Unsafe.park(Native Method)`,
  'python message': `Traceback (most recent call last):
  File "/app/main.py", line 2, in <module>
ValueError: 2 errors
name: missing
age: too low

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 4, in <module>
RuntimeError: also broken`,
  'node message': `Error: first
second
    third, indented
    at run (/app/index.js:12:11)
    at async main (file:///app/index.js:3:1)`,
  'node message of its end': `/app/index.js:12
    throw new Error('first\nsecond');
    ^

Error: first
second
    at run (/app/index.js:12:11)

Node.js v24.1.0`,
  '.net message': `Unhandled exception. System.InvalidOperationException: first
second
 ---> System.IO.IOException: disk full
third
   at App.Disk.Write() in /src/Disk.cs:line 7
   --- End of inner exception stack trace ---
   at App.Program.Main(String[] args)`,
  'go message': `panic: first
second

goroutine 1 [running]:
main.main()
\t/app/main.go:5 +0x20`,
  'ruby message': `app.rb:2:in 'Object#run': first (RuntimeError)
second
\tfrom app.rb:5:in '<main>'`,
  'rust message': `thread 'main' panicked at src/main.rs:2:5:
first
second
note: run with \`RUST_BACKTRACE=1\` environment variable to display a backtrace`,
  'php message': `PHP Fatal error:  Uncaught Exception: first
second in /app/a.php:3
Stack trace:
#0 /app/b.php(7): run()
#1 {main}
  thrown in /app/a.php on line 3`,
  coloured: `${esc}[31mERROR${esc}[0m it broke
    at run (/app/index.js:12:11)`,
};

/** Each line is a message of its own, and none joins one of the traces above. */
export const singles: readonly string[] = [
  'Server started on port 8080',
  '{"level":"error","msg":"broken"}',
  '2026-01-01 00:00:00.123  INFO 1 --- [main] c.e.Application : fine',
  '10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 12',
  'ERROR it broke again',
  'WARN careful',
  '[info] done',
  'level=info msg=done',
  '1763642485567969173',
  '✔ done',
  '  INFO app: padded in front',
  '   2026-01-01T00:00:00Z padded as well',
];

/** Lines of which none is part of the one before: what nothing tells from a message of its own. */
export const apart: Readonly<Record<string, readonly string[]>> = {
  'no trace follows': ['Error: cannot connect', 'trying again', 'connected'],
  'no trace follows, with an indented line': ['Error: cannot connect', 'trying again\n  in 5 s', 'connected'],
  'a line that names a level': ['java.lang.Error: x', 'INFO fine\n\tat com.example.Main.main(Main.java:5)'],
  'a line with a time': ['java.lang.Error: x', '2026-01-01 00:00:00 fine', 'x\n\tat a.B.c(B.java:5)'],
  'a request between': [
    'java.lang.Error: x',
    '10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 12',
    'fine',
  ],
  'JSON between': ['java.lang.Error: x', 'fine', '{"level":"info"}', 'at'],
  'python, and nothing behind it': [
    'Traceback (most recent call last):\n  File "/app/main.py", line 2, in <module>\nValueError: 2 errors',
    'name: missing',
    'age: too low',
  ],
  'more lines than a message has': [
    'java.lang.Error: x',
    ...Array.from({ length: 11 }, (_, i) => `line ${i}`),
  ],
  'below a level': ['ERROR it broke', 'and the reason', 'is unknown'],
  'another exception': ['java.lang.Error: x', 'java.lang.Exception: y'],
};
