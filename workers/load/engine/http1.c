#include "http1.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_LENGTH_DIGITS 18 /* of Content-Length; below 2^63 */
#define MAX_CHUNK_DIGITS 15 /* hexadecimal */

void http1_reset(struct mg_http1 *p, uint32_t is_head) {
    memset(p, 0, offsetof(struct mg_http1, line));
    p->phase = HTTP1_STATUS;
    p->is_head = is_head;
    p->content_length = -1;
}

uint32_t http1_closes(const struct mg_http1 *p) {
    if (p->says_close || p->phase != HTTP1_COMPLETE)
        return 1;
    return p->is_http10 && !p->says_keep_alive;
}

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int status_line(struct mg_http1 *p, const char *line, size_t n) {
    if (n < 12 || memcmp(line, "HTTP/1.", 7) != 0 || !is_digit(line[7]) || line[8] != ' ')
        return -1;
    if (!is_digit(line[9]) || !is_digit(line[10]) || !is_digit(line[11]) || (n > 12 && line[12] != ' '))
        return -1;
    p->status = (uint32_t)((line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0'));
    if (p->status < 100 || p->status > 599 || p->status == 101)
        return -1;
    p->is_http10 = line[7] == '0';
    p->phase = HTTP1_HEADERS;
    return 0;
}

static int content_length(struct mg_http1 *p, const char *value, size_t n) {
    int64_t length = 0;
    if (n == 0 || n > MAX_LENGTH_DIGITS)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(value[i]))
            return -1;
        length = length * 10 + (value[i] - '0');
    }
    if (p->content_length >= 0 && p->content_length != length)
        return -1;
    p->content_length = length;
    return 0;
}

/* Take the next token of a comma separated list, without blanks around it. */
static size_t next_token(const char **at, const char *end, const char **token) {
    const char *comma = memchr(*at, ',', (size_t)(end - *at));
    const char *stop = comma ? comma : end;
    const char *start = *at;
    *at = comma ? comma + 1 : end;
    while (start < stop && (*start == ' ' || *start == '\t'))
        start++;
    while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    *token = start;
    return (size_t)(stop - start);
}

static int token_is(const char *token, size_t n, const char *word) {
    return n == strlen(word) && strncasecmp(token, word, n) == 0;
}

static void connection_tokens(struct mg_http1 *p, const char *at, const char *end) {
    while (at < end) {
        const char *token;
        size_t n = next_token(&at, end, &token);
        if (token_is(token, n, "close"))
            p->says_close = 1;
        else if (token_is(token, n, "keep-alive"))
            p->says_keep_alive = 1;
    }
}

/* RFC 9112 6.1: chunked must come last, and once; any other coding ends with the connection. */
static int transfer_codings(struct mg_http1 *p, const char *at, const char *end) {
    while (at < end) {
        const char *token;
        size_t n = next_token(&at, end, &token);
        if (p->is_chunked && n)
            return -1;
        if (token_is(token, n, "chunked"))
            p->is_chunked = 1;
        else if (n)
            p->has_other_coding = 1;
    }
    return 0;
}

static int header_line(struct mg_http1 *p, const char *line, size_t n) {
    const char *colon = memchr(line, ':', n);
    if (colon == NULL || colon == line || line[0] == ' ' || line[0] == '\t')
        return -1;
    const char *value = colon + 1, *end = line + n;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t name_bytes = (size_t)(colon - line);
    if (token_is(line, name_bytes, "content-length"))
        return content_length(p, value, (size_t)(end - value));
    if (token_is(line, name_bytes, "transfer-encoding"))
        return transfer_codings(p, value, end);
    if (token_is(line, name_bytes, "connection"))
        connection_tokens(p, value, end);
    return 0;
}

/* RFC 9112 6.3: how long the body is. */
static int head_done(struct mg_http1 *p) {
    if (p->status < 200) {
        uint32_t head_bytes = p->head_bytes; /* interim responses share the limit: no endless run of them */
        http1_reset(p, p->is_head);
        p->head_bytes = head_bytes;
        return 0;
    }
    if (p->is_head || p->status == 204 || p->status == 304)
        p->phase = HTTP1_COMPLETE;
    else if (p->is_chunked)
        p->phase = HTTP1_CHUNK_SIZE;
    else if (p->has_other_coding || p->content_length < 0)
        p->phase = HTTP1_UNTIL_CLOSE;
    else if (p->content_length == 0)
        p->phase = HTTP1_COMPLETE;
    else {
        p->phase = HTTP1_BODY;
        p->remaining = p->content_length;
    }
    return 0;
}

static int hex_value(char c) {
    if (is_digit(c))
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int chunk_size_line(struct mg_http1 *p, const char *line, size_t n) {
    int64_t size = 0;
    size_t digits = 0;
    while (digits < n && hex_value(line[digits]) >= 0) {
        if (digits == MAX_CHUNK_DIGITS)
            return -1;
        size = size * 16 + hex_value(line[digits++]);
    }
    if (digits == 0 || (digits < n && line[digits] != ';' && line[digits] != ' ' && line[digits] != '\t'))
        return -1;
    p->remaining = size;
    p->head_bytes = 0; /* a body may have any number of chunks */
    p->phase = size ? HTTP1_CHUNK_DATA : HTTP1_TRAILERS;
    return 0;
}

static int one_line(struct mg_http1 *p, const char *line, size_t n) {
    if (n && line[n - 1] == '\r')
        n--;
    switch (p->phase) {
    case HTTP1_STATUS:
        return status_line(p, line, n);
    case HTTP1_HEADERS:
        return n ? header_line(p, line, n) : head_done(p);
    case HTTP1_CHUNK_SIZE:
        return chunk_size_line(p, line, n);
    case HTTP1_CHUNK_END:
        p->phase = HTTP1_CHUNK_SIZE;
        return n ? -1 : 0;
    default: /* trailers */
        if (n == 0)
            p->phase = HTTP1_COMPLETE;
        return 0;
    }
}

/* Take one line, joined with what former reads left of it. Returns the bytes used, -1 on an error. */
static int64_t feed_line(struct mg_http1 *p, const char *data, size_t bytes) {
    const char *newline = memchr(data, '\n', bytes);
    size_t used = newline ? (size_t)(newline - data) + 1 : bytes;
    size_t text = newline ? used - 1 : used;
    if (p->line_bytes + text > HTTP1_LINE_BYTES || p->head_bytes + used > HTTP1_HEAD_BYTES)
        return -1;
    p->head_bytes += (uint32_t)used;
    if (newline && p->line_bytes == 0)
        return one_line(p, data, text) ? -1 : (int64_t)used;
    memcpy(p->line + p->line_bytes, data, text);
    p->line_bytes += (uint32_t)text;
    if (newline) {
        size_t n = p->line_bytes;
        p->line_bytes = 0;
        if (one_line(p, p->line, n))
            return -1;
    }
    return (int64_t)used;
}

static int64_t feed_body(struct mg_http1 *p, size_t bytes) {
    int64_t used = (int64_t)bytes;
    if (p->phase != HTTP1_UNTIL_CLOSE && used > p->remaining)
        used = p->remaining;
    p->body_bytes += used;
    if (p->phase == HTTP1_UNTIL_CLOSE)
        return used;
    p->remaining -= used;
    if (p->remaining == 0)
        p->phase = p->phase == HTTP1_BODY ? HTTP1_COMPLETE : HTTP1_CHUNK_END;
    return used;
}

int64_t http1_feed(struct mg_http1 *p, const char *data, size_t bytes) {
    size_t at = 0;
    while (at < bytes && p->phase != HTTP1_COMPLETE) {
        int64_t used;
        if (p->phase == HTTP1_BROKEN)
            return -1;
        if (p->phase == HTTP1_BODY || p->phase == HTTP1_CHUNK_DATA || p->phase == HTTP1_UNTIL_CLOSE)
            used = feed_body(p, bytes - at);
        else
            used = feed_line(p, data + at, bytes - at);
        if (used < 0) {
            p->phase = HTTP1_BROKEN;
            return -1;
        }
        at += (size_t)used;
    }
    return (int64_t)at;
}

int http1_eof(struct mg_http1 *p) {
    if (p->phase != HTTP1_UNTIL_CLOSE)
        return -1;
    p->phase = HTTP1_COMPLETE;
    p->says_close = 1;
    return 0;
}

struct mg_http1 *mg_parser_new(uint32_t is_head) {
    struct mg_http1 *parser = malloc(sizeof *parser);
    if (parser)
        http1_reset(parser, is_head);
    return parser;
}

void mg_parser_free(struct mg_http1 *parser) {
    free(parser);
}

int64_t mg_parser_feed(struct mg_http1 *parser, const char *data, uint64_t bytes) {
    return http1_feed(parser, data, bytes);
}

int64_t mg_parser_eof(struct mg_http1 *parser) {
    return http1_eof(parser);
}

uint32_t mg_parser_status(const struct mg_http1 *parser) {
    return parser->phase == HTTP1_COMPLETE ? parser->status : 0;
}

int64_t mg_parser_body_bytes(const struct mg_http1 *parser) {
    return parser->body_bytes;
}

uint32_t mg_parser_closes(const struct mg_http1 *parser) {
    return http1_closes(parser);
}
