export interface ProgramContext {
  env: Record<string, string | undefined>;
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
  /** Takes the exit code of a command that has ended. */
  exitWith: (code: number) => void;
}
