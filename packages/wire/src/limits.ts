/**
 * Sizes both sides agree on. They follow from the smallest broker we must pass (AWS IoT Core: 128 KB a
 * message, 7 slashes a topic): a batch of at most `maxBatchBytes` uncompressed never exceeds
 * `maxPublishBytes` gzipped, because deflate grows incompressible input by less than 0.1 %. So a journal
 * batch always fits one MQTT message and is never split again.
 */
export const limits = {
  /** Longest `message` in UTF-8 bytes; the rest of a longer line is cut and marked. */
  maxMessageBytes: 64 * 1024,
  /** Longest encoded line (a JSON object) a sender may produce, in bytes. */
  maxEncodedLineBytes: 100 * 1024,
  /** Most uncompressed bytes in one batch, its header line included. */
  maxBatchBytes: 112 * 1024,
  /** Most lines in one batch. */
  maxBatchLines: 2000,
  /** Most bytes of a batch's header line. */
  maxHeaderLineBytes: 1024,
  /** Most ranges of other journals that a batch's header names. */
  maxOverlaps: 8,
  /** Most bytes in one MQTT publish. */
  maxPublishBytes: 120 * 1024,
  /** Most ranges of seqs that one acknowledgement over MQTT names; a message holds no more runs of neighbours. */
  maxAckRanges: 16,
  /** Most slashes in an MQTT topic. */
  maxTopicSlashes: 7,
  /** Longest MQTT topic level we build, in characters. */
  maxTopicLevelChars: 128,
  /** Longest line a receiver buffers, in bytes; a longer one is kept as truncated raw text. */
  maxReceivedLineBytes: 1024 * 1024,
} as const;
