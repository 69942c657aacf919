/* What the parts of the engine share: its state, and what one part asks of another. */
#ifndef MG_STATE_H
#define MG_STATE_H

#include "arrivals.h"
#include "engine.h"
#include "http1.h"
#include "tally.h"

#include <pthread.h>

#define EVENTS_A_ROUND 256
#define READ_BYTES 65536
#define RETRY_AFTER_NS 5000000ll /* pause before a connection that got nowhere is tried again */
#define WAKE_MARK UINT64_MAX
#define TIMER_MARK (UINT64_MAX - 1)
#define NEVER INT64_MAX

enum connection_state { CLOSED, CONNECTING, IDLE, BUSY, RETRY };

struct connection {
    struct connection *before, *after; /* neighbours in the list of its state */
    int fd;
    enum connection_state state;
    uint32_t slot;
    uint32_t generation; /* grows with every socket, so that stale events are told apart */
    uint32_t served; /* replies on this socket */
    int64_t since_ns; /* of a connect, a send or a failure: deadlines count from here */
    uint64_t sent_bytes;
    struct passage passage;
    struct mg_http1 parser;
};

/* Ring of connections with a sentinel; all waits of one list are equally long, so its head is due first. */
struct list {
    struct connection head;
};

struct mg_engine {
    struct mg_target target;
    char *request;
    struct tally tally;
    struct arrivals arrivals;
    struct connection *connections;
    struct list idle, pending, retrying; /* idle: longest free first, so requests go round */
    int64_t *backlog; /* intended starts without a connection, oldest first; a ring */
    uint64_t backlog_at, backlog_count, backlog_size;
    int64_t next_arrival_ns, drain_end_ns;
    uint64_t seconds_edges;
    uint32_t applied; /* connections wanted, as far as the thread has seen */
    int begun, ending, closed_loop;
    int epoll_fd, wake_fd, timer_fd, schedstat_fd;
    int has_pwait2;
    uint32_t wanted, begin_given, stop_given; /* written by others, atomically */
    struct mg_schedule schedule; /* published by begin_given */
    pthread_t thread;
    char scratch[READ_BYTES];
};

/* ---- state.c: the clock, lists, the backlog ---- */

int64_t now_ns(void);
void list_init(struct list *list);
struct connection *list_first(struct list *list);
void list_append(struct list *list, struct connection *c);
void list_remove(struct connection *c);
void backlog_push(struct mg_engine *e, int64_t intended_ns);
int64_t backlog_pop(struct mg_engine *e);
/* End the engine with an error that is not the target's. */
void fail_engine(struct mg_engine *e, int error);
/* Whether a free connection should send right away. */
int closed_loop_sends(const struct mg_engine *e, int64_t now);

/* ---- connections.c ---- */

void watch(struct mg_engine *e, struct connection *c, int operation, uint32_t events);
void shut(struct mg_engine *e, struct connection *c);
/* A failed connect costs the arrivals that waited for it: all of them when no other connection is open. */
void connect_failed(struct mg_engine *e, struct connection *c, int error, int64_t now);
void open_connection(struct mg_engine *e, struct connection *c, int64_t now);
void connected(struct mg_engine *e, struct connection *c);
/* Close a socket and see to its successor. */
void replace(struct mg_engine *e, struct connection *c, int64_t now);
void adjust_connections(struct mg_engine *e, int64_t now);

/* ---- requests.c ---- */

/* The request is over: keep the connection when it can carry another. */
void end_request(struct mg_engine *e, struct connection *c, enum mg_outcome outcome, int reusable, int64_t now);
/* Send what waits, as long as there are free connections. */
void serve_waiting(struct mg_engine *e, int64_t now);
void on_event(struct mg_engine *e, uint64_t mark, uint32_t events);

/* ---- loop.c ---- */

/* The thread: what is due by the clock, then events until the next thing is due. */
void *run_engine(void *engine);

#endif
