/* Counters and histograms of an engine: written by its thread alone, readable by anyone at any time. */
#ifndef MG_TALLY_H
#define MG_TALLY_H

#include "engine.h"

/* One writer, many readers: a relaxed store is all it takes, and compiles to a plain move. */
#define STORE(counter, value) __atomic_store_n(&(counter), (value), __ATOMIC_RELAXED)
#define ADD(counter, more) STORE(counter, (counter) + (more))

#define NS_PER_S 1000000000ll

struct tally {
    struct mg_stats stats;
    uint64_t *histograms;
    uint64_t *live;
    uint32_t *batches;
    struct mg_second *seconds;
    uint32_t *second_counts;
    uint64_t *edges;
    uint64_t window_seconds; /* last one may be shorter */
    int64_t window_start_ns, window_end_ns;
};

/* The instants of one ended request. free_since: when its connection could have taken it. */
struct passage {
    int64_t intended_ns, free_since_ns, sent_ns, ended_ns;
};

int tally_open(struct tally *tally);
int tally_begin(struct tally *tally, const struct mg_schedule *schedule);
void tally_close(struct tally *tally);
int tally_in_window(const struct tally *tally, int64_t intended_ns);
void tally_offered(struct tally *tally, int64_t intended_ns);
void tally_sent(struct tally *tally, const struct passage *passage);
void tally_dropped(struct tally *tally, int64_t intended_ns);
void tally_ended(struct tally *tally, const struct passage *passage, enum mg_outcome outcome);

/* Hand the memory of a finished second back; its counts read as 0 from now on. */
void tally_release_second(struct tally *tally, uint64_t second);

#endif
