/* The schedule of intended starts. arrivals.py is its twin; a test holds both to the same instants. */
#ifndef MG_ARRIVALS_H
#define MG_ARRIVALS_H

#include "engine.h"

struct arrivals {
    struct mg_schedule plan;
    uint64_t index; /* arrivals given out so far */
    uint64_t random_state;
    double next_s; /* Poisson: next arrival after the start */
};

void arrivals_init(struct arrivals *arrivals, const struct mg_schedule *plan);
/* The next intended start, CLOCK_MONOTONIC ns. */
int64_t arrivals_next(struct arrivals *arrivals);

#endif
