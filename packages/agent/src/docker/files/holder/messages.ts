/**
 * What the agent and the process that holds files open for it say to each other, each as one message of their channel:
 *
 *     agent ──► process     Order: hold a log; files were taken over, or read and closed; look now; end
 *     agent ◄── process     Report: ready; files that were opened, in order; looked; ended
 *
 * While a log is held only the process opens what is new, so none is opened twice and their order is that in which they
 * were told. A file descriptor that it tells of stays open in the process until it hears that it was taken: the agent
 * opens the same file by `/proc/<pid>/fd/<fd>`, which works for one that has no name any more. Behind `ended` nothing
 * comes for that log.
 */
export type Order =
  | ({ do: 'hold' } & HoldOrder)
  /** So many of those that it was told of were opened, oldest first. */
  | { do: 'taken'; log: number; files: number }
  /** So many were read and closed: there is room for others. */
  | { do: 'closed'; log: number; files: number }
  | { do: 'look'; log: number; ask: number }
  /** To be looked at no more; what was told of can still be taken. */
  | { do: 'end'; log: number }
  /** And nobody will take it. */
  | { do: 'discard'; log: number };

export interface HoldOrder {
  /** A number that no other log has had. */
  log: number;
  path: string;
  /**
   * The newest file that is open, which the agent keeps open, so that no other can be taken for it. Left out: none, and
   * all that there are or will be are to be opened.
   */
  knownIdentity?: string | undefined;
  /** How many files there may be, where none is compressed. */
  plainFiles?: number | undefined;
  /** How often the log is looked at. */
  everyMs: number;
  /** How many files may be held besides those that are open. */
  room: number;
}

export type Report =
  | { told: 'ready' }
  | ({ told: 'files'; log: number } & HeldFiles)
  /** The log has been looked at since this was asked, and all that was new has been told. */
  | { told: 'looked'; log: number; ask: number }
  | { told: 'ended'; log: number };

export interface HeldFiles {
  /** Oldest first. */
  fds: number[];
  /** None is missing in front of the first. */
  isNext: boolean;
}
