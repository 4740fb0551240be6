/*
 * Prints the wall clock, in ns, one line at a time with pauses in between: clock LINES MIN_PAUSE_US MAX_PAUSE_US
 * A program of its own because a shell would spend more time on starting `date` than what is measured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  long lines = atol(argv[1]), min_us = atol(argv[2]), max_us = atol(argv[3]);
  srand(time(NULL));
  for (long i = 0; i < lines; i++) {
    usleep(min_us + rand() % (max_us - min_us));
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char line[64];
    int length = snprintf(line, sizeof line, "%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
    if (write(1, line, length) != length) return 1;
  }
  return 0;
}
