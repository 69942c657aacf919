/* An HTTP/1.1 response parser that may be fed in pieces of any size. http1.py is its twin. */
#ifndef MG_HTTP1_H
#define MG_HTTP1_H

#include "engine.h"

#define HTTP1_LINE_BYTES 8192
#define HTTP1_HEAD_BYTES 65536

enum http1_phase { HTTP1_STATUS, HTTP1_HEADERS, HTTP1_BODY, HTTP1_UNTIL_CLOSE, HTTP1_CHUNK_SIZE,
                   HTTP1_CHUNK_DATA, HTTP1_CHUNK_END, HTTP1_TRAILERS, HTTP1_COMPLETE, HTTP1_BROKEN };

struct mg_http1 {
    enum http1_phase phase;
    uint32_t is_head;
    uint32_t status;
    uint32_t is_chunked;
    uint32_t has_other_coding; /* a transfer coding whose end only the close tells */
    uint32_t says_close;
    uint32_t says_keep_alive;
    uint32_t is_http10;
    int64_t content_length; /* -1: not given */
    int64_t remaining; /* of the body or the chunk */
    int64_t body_bytes;
    uint32_t head_bytes; /* of all status lines, headers, chunk sizes and trailers of this response */
    uint32_t line_bytes; /* kept in line[] from former reads */
    char line[HTTP1_LINE_BYTES];
};

void http1_reset(struct mg_http1 *parser, uint32_t is_head);
/* Returns the bytes used up; fewer than given once the response is complete. -1: not HTTP/1.1. */
int64_t http1_feed(struct mg_http1 *parser, const char *data, size_t bytes);
/* The peer closed: returns 0 when that completes the response, -1 when it cuts it short. */
int http1_eof(struct mg_http1 *parser);
/* Whether the connection cannot carry another request. */
uint32_t http1_closes(const struct mg_http1 *parser);

#endif
