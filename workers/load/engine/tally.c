#define _GNU_SOURCE
#include "tally.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Zero pages that cost memory only where they are written. NULL on failure. */
static void *zero_pages(size_t bytes) {
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

#define HISTOGRAM_BYTES ((size_t)MG_OUTCOMES * MG_CLOCKS * MG_CELLS * sizeof(uint64_t))
#define LIVE_BYTES ((size_t)MG_CELLS * sizeof(uint64_t))
#define BATCH_BYTES ((size_t)MG_BATCHES * MG_CELLS * sizeof(uint32_t))
#define SECOND_BYTES ((size_t)MG_SECOND_STRIDE * sizeof(uint32_t))

int tally_open(struct tally *t) {
    memset(t, 0, sizeof *t);
    t->histograms = zero_pages(HISTOGRAM_BYTES);
    t->live = zero_pages(LIVE_BYTES);
    return t->histograms && t->live ? 0 : ENOMEM;
}

int tally_begin(struct tally *t, const struct mg_schedule *schedule) {
    t->window_start_ns = schedule->window_start_ns;
    t->window_end_ns = schedule->window_end_ns;
    t->window_seconds = (uint64_t)((t->window_end_ns - t->window_start_ns + NS_PER_S - 1) / NS_PER_S);
    t->batches = zero_pages(BATCH_BYTES);
    t->second_counts = zero_pages(t->window_seconds * SECOND_BYTES);
    t->seconds = calloc(t->window_seconds, sizeof *t->seconds);
    t->edges = calloc(t->window_seconds + 1, sizeof *t->edges);
    return t->batches && t->second_counts && t->seconds && t->edges ? 0 : ENOMEM;
}

static void give_back(void *pages, size_t bytes) {
    if (pages)
        munmap(pages, bytes);
}

void tally_close(struct tally *t) {
    give_back(t->histograms, HISTOGRAM_BYTES);
    give_back(t->live, LIVE_BYTES);
    give_back(t->batches, BATCH_BYTES);
    give_back(t->second_counts, t->window_seconds * SECOND_BYTES);
    free(t->seconds);
    free(t->edges);
}

uint64_t mg_bucket(uint64_t value_ns) {
    if (value_ns >> MG_MAX_VALUE_BITS)
        return MG_BUCKETS;
    if (value_ns < (1u << MG_SUB_BUCKET_BITS))
        return value_ns;
    unsigned shift = 64 - (unsigned)__builtin_clzll(value_ns) - MG_SUB_BUCKET_BITS;
    return shift * MG_HALF + (value_ns >> shift);
}

static uint64_t bucket_of(int64_t value_ns) {
    return mg_bucket(value_ns > 0 ? (uint64_t)value_ns : 0);
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

int tally_in_window(const struct tally *t, int64_t intended_ns) {
    return intended_ns >= t->window_start_ns && intended_ns < t->window_end_ns;
}

static struct mg_second *second_of(struct tally *t, int64_t intended_ns) {
    return &t->seconds[(intended_ns - t->window_start_ns) / NS_PER_S];
}

void tally_offered(struct tally *t, int64_t intended_ns) {
    if (!tally_in_window(t, intended_ns))
        return;
    ADD(t->stats.offered, 1);
    ADD(second_of(t, intended_ns)->offered, 1);
}

void tally_sent(struct tally *t, const struct passage *p) {
    if (!tally_in_window(t, p->intended_ns))
        return;
    ADD(t->stats.sent, 1);
    ADD(second_of(t, p->intended_ns)->sent, 1);
    if (p->free_since_ns > p->intended_ns)
        ADD(t->stats.waited, 1);
}

void tally_dropped(struct tally *t, int64_t intended_ns) {
    if (!tally_in_window(t, intended_ns))
        return;
    ADD(t->stats.dropped, 1);
    ADD(second_of(t, intended_ns)->dropped, 1);
}

static void count_ok(struct tally *t, int64_t intended_ns, uint64_t net_bucket) {
    int64_t into_window_ns = intended_ns - t->window_start_ns;
    uint64_t batch = (uint64_t)into_window_ns * MG_BATCHES / (uint64_t)(t->window_end_ns - t->window_start_ns);
    uint32_t *second = t->second_counts + (uint64_t)(into_window_ns / NS_PER_S) * MG_SECOND_STRIDE;
    ADD(t->batches[batch * MG_CELLS + net_bucket], 1);
    ADD(second[net_bucket], 1);
}

void tally_ended(struct tally *t, const struct passage *p, enum mg_outcome outcome) {
    int64_t response_ns = p->ended_ns - p->intended_ns;
    int64_t service_ns = p->ended_ns - p->sent_ns;
    int64_t lag_ns = later(p->sent_ns - later(p->intended_ns, p->free_since_ns), 0);
    uint64_t net_bucket = bucket_of(response_ns - lag_ns);
    ADD(t->stats.replies_total, 1);
    if (outcome == MG_OK)
        ADD(t->live[net_bucket], 1);
    else
        ADD(t->stats.errors_total, 1);
    if (!tally_in_window(t, p->intended_ns))
        return;
    uint64_t *histograms = t->histograms + (size_t)outcome * MG_CLOCKS * MG_CELLS;
    ADD(histograms[MG_RESPONSE * MG_CELLS + bucket_of(response_ns)], 1);
    ADD(histograms[MG_SERVICE * MG_CELLS + bucket_of(service_ns)], 1);
    ADD(histograms[MG_LAG * MG_CELLS + bucket_of(lag_ns)], 1);
    ADD(histograms[MG_NET * MG_CELLS + net_bucket], 1);
    struct mg_second *second = second_of(t, p->intended_ns);
    if (outcome == MG_OK)
        count_ok(t, p->intended_ns, net_bucket);
    else
        ADD(second->errors, 1);
    ADD(t->stats.outcomes[outcome], 1);
    ADD(t->stats.done, 1);
    /* Last, with release: whoever sees the second complete sees its counts. */
    __atomic_store_n(&second->done, second->done + 1, __ATOMIC_RELEASE);
}

void tally_release_second(struct tally *t, uint64_t second) {
    if (second < t->window_seconds)
        madvise(t->second_counts + second * MG_SECOND_STRIDE, SECOND_BYTES, MADV_DONTNEED);
}
