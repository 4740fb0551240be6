/**
 * The right of this process to admit the numbered lines of some devices, where several processes share a store.
 *
 *   held ── it is to be handed over ──► ending ── all that was admitted is committed ──► (given up)
 *     └──────── another process has claimed the same ──────┴──► lost
 *
 * What was admitted under a claim that is lost and is not committed never will be (see `store/fences.ts`), and must
 * not be acknowledged.
 */
export class Claim {
  readonly slot: number;
  /** Of two claims on a slot the one with the higher epoch is the later. */
  readonly epoch: number;
  #state: 'held' | 'ending' | 'lost' = 'held';

  constructor(slot: number, epoch: number) {
    this.slot = slot;
    this.epoch = epoch;
  }

  get state(): 'held' | 'ending' | 'lost' {
    return this.#state;
  }

  /** Nothing more is admitted under it. */
  end(): void {
    if (this.#state === 'held') this.#state = 'ending';
  }

  lose(): void {
    this.#state = 'lost';
  }
}

/** Who knows which claims this process has. */
export interface Claims {
  /**
   * The claim that a device's lines are admitted under, once this process has it.
   *
   * @throws MillraceError `DEVICE_ELSEWHERE` when another process answers for the device
   */
  of(device: string): Promise<Claim>;
}
