/* The binary interface of the load engine. native.py mirrors every struct; change MG_ABI with any of them. */
#ifndef MG_ENGINE_H
#define MG_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#define MG_ABI 1u
#define MG_API __attribute__((visibility("default")))

/* Bucket layout of meshgauge/histogram.py: values in ns, 11 significant bits, range below 2^36 ns. */
#define MG_SUB_BUCKET_BITS 11
#define MG_MAX_VALUE_BITS 36
#define MG_HALF (1 << (MG_SUB_BUCKET_BITS - 1))
#define MG_BUCKETS ((1 << MG_SUB_BUCKET_BITS) + (MG_MAX_VALUE_BITS - MG_SUB_BUCKET_BITS) * MG_HALF)
#define MG_CELLS (MG_BUCKETS + 1) /* the last cell counts overflow */

/* Counts of one second: 32 bits are enough, and a page-aligned stride lets Python hand memory back. */
#define MG_SECOND_STRIDE 28672
#define MG_BATCHES 12

/* Order of meshgauge/trial.py OUTCOMES and CLOCKS. */
enum mg_outcome {
    MG_OK,
    MG_STATUS_2XX,
    MG_STATUS_3XX,
    MG_STATUS_4XX,
    MG_STATUS_5XX,
    MG_TIMEOUT,
    MG_RESET,
    MG_CONNECT_FAILURE,
    MG_BAD_BODY,
    MG_OUTCOMES
};
enum mg_clock { MG_RESPONSE, MG_SERVICE, MG_LAG, MG_NET, MG_CLOCKS };
enum mg_arrival { MG_CLOSED, MG_UNIFORM, MG_POISSON, MG_BURST, MG_RAMP };
enum mg_state { MG_CONNECTING, MG_RUNNING, MG_DRAINING, MG_FINISHED, MG_STOPPED, MG_FAILED };

/* Where requests go and what an expected reply looks like; fixed for the life of an engine. */
struct mg_target {
    uint32_t address_be; /* IPv4, network order */
    uint32_t port;
    uint32_t capacity; /* most connections ever asked for */
    uint32_t requests_per_connection; /* 0: as many as the server permits */
    uint32_t expected_status;
    uint32_t is_head; /* replies to HEAD carry no body */
    int32_t fifo_priority; /* SCHED_FIFO priority, 0: leave the scheduling alone */
    int32_t cpu; /* core to stay on, -1: any */
    uint32_t without_pwait2; /* tests: take the timerfd road of kernels before 5.11 */
    uint32_t reserved;
    int64_t expected_body_bytes; /* -1: any */
    int64_t timeout_ns; /* of a request, from its send; of a connect, from its start */
    const char *request;
    uint64_t request_bytes;
};

/* Arrivals and the window; instants are CLOCK_MONOTONIC. */
struct mg_schedule {
    uint32_t arrival;
    uint32_t burst_requests;
    double rate_rps;
    double ramp_from_rps;
    double phase; /* 0 <= phase < 1: share of a gap this worker is shifted by */
    uint64_t seed;
    int64_t start_ns;
    int64_t window_start_ns;
    int64_t window_end_ns;
    int64_t end_ns;
};

/* One second of the window, by intended start; errors are replies that were not MG_OK. */
struct mg_second {
    uint64_t offered, sent, done, errors, dropped;
};

/* Counters that only grow (states and peaks aside); written by the engine thread, read by anyone. */
struct mg_stats {
    uint64_t state;
    uint64_t failure_errno;
    uint64_t thread_id;
    uint64_t fifo_applied;
    uint64_t connections_open;
    uint64_t connections_opened;
    uint64_t connect_failures;
    uint64_t connect_errno; /* of the last one */
    uint64_t requests_total; /* put on the wire in all phases */
    uint64_t replies_total; /* ended in all phases, errors included */
    uint64_t errors_total;
    /* Of arrivals whose intended start lies in the window: */
    uint64_t offered;
    uint64_t sent;
    uint64_t done;
    uint64_t dropped;
    uint64_t waited;
    uint64_t backlog_peak;
    uint64_t edges_passed; /* entries of the edge array that are written */
    uint64_t run_delay_start_ns; /* schedstat at the window's edges */
    uint64_t run_delay_end_ns;
    uint64_t run_delay_known;
    uint64_t outcomes[MG_OUTCOMES];
};

struct mg_engine;

MG_API uint32_t mg_abi(void);
MG_API uint64_t mg_struct_bytes(uint32_t which); /* 0 target, 1 schedule, 2 second, 3 stats, 4 cells */

/* Start the thread; it connects as connections are asked for. NULL and errno on failure. */
MG_API struct mg_engine *mg_open(const struct mg_target *target);
MG_API void mg_set_connections(struct mg_engine *engine, uint32_t connections);
/* Give the schedule, once. Returns 0 or an errno. */
MG_API int mg_begin(struct mg_engine *engine, const struct mg_schedule *schedule);
/* End at once; what is in flight is abandoned. */
MG_API void mg_stop(struct mg_engine *engine);
/* Stop, join the thread, free everything. */
MG_API void mg_close(struct mg_engine *engine);

MG_API struct mg_stats *mg_stats(struct mg_engine *engine);
MG_API uint64_t *mg_histograms(struct mg_engine *engine); /* [outcome][clock][MG_CELLS] */
MG_API uint64_t *mg_live(struct mg_engine *engine); /* net response of MG_OK in all phases, [MG_CELLS] */
/* The following exist after mg_begin. */
MG_API uint32_t *mg_batches(struct mg_engine *engine); /* [MG_BATCHES][MG_CELLS], net response of MG_OK */
MG_API struct mg_second *mg_seconds(struct mg_engine *engine);
MG_API uint32_t *mg_second_counts(struct mg_engine *engine); /* [second][MG_SECOND_STRIDE], net, MG_OK */
MG_API uint64_t *mg_edges(struct mg_engine *engine); /* thread CPU ns at each second's start and the window's end */
MG_API void mg_release_second(struct mg_engine *engine, uint64_t second); /* its counts read as 0 from now on */

/* For tests: feed bytes to the parser as one read. Result is negative on a protocol error. */
struct mg_http1;
MG_API struct mg_http1 *mg_parser_new(uint32_t is_head);
MG_API void mg_parser_free(struct mg_http1 *parser);
MG_API int64_t mg_parser_feed(struct mg_http1 *parser, const char *data, uint64_t bytes);
MG_API int64_t mg_parser_eof(struct mg_http1 *parser);
MG_API uint32_t mg_parser_status(const struct mg_http1 *parser);
MG_API int64_t mg_parser_body_bytes(const struct mg_http1 *parser);
MG_API uint32_t mg_parser_closes(const struct mg_http1 *parser);
/* For tests: the first arrivals of a schedule, ns after its start. */
MG_API void mg_arrivals(const struct mg_schedule *schedule, int64_t *out_ns, uint64_t count);
MG_API uint64_t mg_bucket(uint64_t value_ns);

#endif
