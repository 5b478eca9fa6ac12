/* An OpenAI-compatible server that costs as little as one can: every POST gets the same chat completion.

   cc -O2 -o stub stub.c && ./stub PORT [LATENCY_MS]

   One thread, epoll, HTTP/1.1 with keep-alive. PORT 0 takes a free port; the first line on stdout tells the address.
   A body is read to its end, in however many pieces it comes, and thrown away. The latency is the same for every
   request, so that answers fall due in the order in which the requests ended: a queue holds them. SIGTERM (also sent
   when the parent process ends) prints the counts as a line of JSON.

   What no client under test does is refused: bodies without a Content-Length, and a second request on a connection
   before the first is answered. Linux only. */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 16384 /* bytes of a request's head */
#define EVENTS 512     /* taken from epoll at once */

typedef struct {
    const char *text;
    size_t length;
} answer;

typedef struct connection {
    int fd;                  /* -1: closed while it waits in the queue */
    bool keep_alive;
    bool in_body;            /* the head is read; `body_left` bytes are to come */
    bool waiting;            /* in the queue until `due` */
    bool blocked;            /* the socket takes no more of the answer for now */
    double due;              /* seconds of the monotonic clock */
    struct connection *next; /* in the queue */
    size_t body_left;
    const answer *sending;   /* NULL: nothing */
    size_t sent;             /* bytes of it */
    size_t head_length;
    char head[HEAD_MAX + 1]; /* of the request that is being read, as far as it has come */
} connection;

static const char COMPLETION[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"choices\":[{"
    "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"You have often said that you like quiet places, so "
    "the second reply fits best. The others speak of things that you never mentioned, or that somebody else likes."
    "\\n\\nAnswer: B\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{"
    "\"prompt_tokens\":250,\"completion_tokens\":40,\"total_tokens\":290,\"prompt_tokens_details\":{"
    "\"cached_tokens\":0}},\"system_fingerprint\":\"fp_stub\"}";
static const char REFUSAL[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";

static const answer refused = {REFUSAL, sizeof REFUSAL - 1};
static answer completed, completed_last; /* with keep-alive; the last one on its connection */
static int poller;
static double latency; /* seconds */
static connection *oldest, *newest; /* the queue */
static long requests, connections, in_flight, in_flight_max;
static double received; /* bytes */
static double began, ended; /* the first request's end, the last answer */
static volatile sig_atomic_t stopped;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- connections. What may end one returns whether it is still there. ---- */

static bool end(connection *c) {
    if (c->fd >= 0) close(c->fd); /* which also takes it from the poller */
    c->fd = -1;
    if (!c->waiting) free(c); /* else the queue will */
    return false;
}

static void set_blocked(connection *c, bool blocked) {
    if (c->blocked == blocked) return;
    struct epoll_event event = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    c->blocked = blocked;
}

static bool send_rest(connection *c) {
    while (c->sent < c->sending->length) {
        ssize_t n = send(c->fd, c->sending->text + c->sent, c->sending->length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            set_blocked(c, true);
            return true;
        }
        if (n < 0 && errno != EINTR) return end(c);
        if (n > 0) c->sent += (size_t)n;
    }
    c->sending = NULL;
    if (!c->keep_alive) return end(c);
    set_blocked(c, false);
    return true;
}

static bool send_answer(connection *c, const answer *what) {
    c->sending = what;
    c->sent = 0;
    return send_rest(c);
}

static bool refuse(connection *c) {
    c->keep_alive = false;
    return send_answer(c, &refused);
}

static bool complete(connection *c) {
    in_flight--;
    requests++;
    ended = now();
    return send_answer(c, c->keep_alive ? &completed : &completed_last);
}

/* ---- reading requests ---- */

/* The body has come to its end: answer at once, or when the time has come. */
static bool request_ended(connection *c) {
    c->in_body = false;
    if (!began) began = now();
    if (++in_flight > in_flight_max) in_flight_max = in_flight;
    if (latency <= 0) return complete(c);
    c->waiting = true;
    c->due = now() + latency;
    c->next = NULL;
    if (newest) newest->next = c;
    else oldest = c;
    newest = c;
    return true;
}

/* Where the value of a header begins in a head; NULL: there is no such header. */
static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        const char *value = line + 2 + length;
        if (!strncasecmp(line + 2, name, length) && *value == ':') return value + 1 + strspn(value + 1, " \t");
    }
    return NULL;
}

static bool is(const char *value, const char *word) { return value && !strncasecmp(value, word, strlen(word)); }

static bool head_ended(connection *c) {
    const char *length = header(c->head, "content-length");
    if (strncmp(c->head, "POST ", 5) || !length) return refuse(c);
    c->keep_alive = !is(header(c->head, "connection"), "close");
    c->body_left = strtoull(length, NULL, 10);
    c->in_body = true;
    if (is(header(c->head, "expect"), "100-continue")) send(c->fd, CONTINUE, sizeof CONTINUE - 1, MSG_NOSIGNAL);
    return c->body_left || request_ended(c);
}

/* Take bytes into the head as far as they belong to it; `used` tells how many. */
static bool read_head(connection *c, const char *data, size_t count, size_t *used) {
    size_t before = c->head_length, room = HEAD_MAX - before;
    size_t taken = count < room ? count : room;
    memcpy(c->head + before, data, taken);
    c->head_length += taken;
    size_t from = before > 3 ? before - 3 : 0; /* the blank line may come in pieces */
    char *blank = memmem(c->head + from, c->head_length - from, "\r\n\r\n", 4);
    if (!blank) {
        *used = taken;
        return c->head_length < HEAD_MAX || refuse(c);
    }
    *used = (size_t)(blank + 4 - c->head) - before;
    blank[2] = 0;
    c->head_length = 0;
    return head_ended(c);
}

static void read_some(connection *c) {
    static char data[1 << 18];
    ssize_t n = recv(c->fd, data, sizeof data, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        end(c);
        return;
    }
    received += (double)n;
    size_t at = 0, count = (size_t)n;
    while (at < count) {
        size_t used = count - at;
        bool there;
        if (c->waiting || c->sending) {
            there = end(c); /* a second request before the first is answered */
        } else if (c->in_body) {
            if (used > c->body_left) used = c->body_left;
            c->body_left -= used;
            there = c->body_left || request_ended(c);
        } else {
            there = read_head(c, data + at, count - at, &used);
        }
        if (!there) return;
        at += used;
    }
}

/* ---- the server ---- */

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        connection *c = calloc(1, sizeof *c);
        if (!c) {
            close(fd);
            return;
        }
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        connections++;
    }
}

/* Answer what is due. Milliseconds until the next one is; -1: nothing waits. */
static int serve_queue(void) {
    while (oldest) {
        double left = oldest->due - now();
        if (left > 0) return (int)(1000 * left) + 1;
        connection *c = oldest;
        oldest = c->next;
        if (!oldest) newest = NULL;
        c->waiting = false;
        if (c->fd >= 0) {
            complete(c);
        } else {
            in_flight--;
            free(c);
        }
    }
    return -1;
}

static void stop(int number) {
    (void)number;
    stopped = 1;
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) {
        perror("stub: can't listen");
        exit(1);
    }
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("listening on http://127.0.0.1:%d/v1\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void prepare_answer(answer *a, const char *connection_header) {
    static const char HEAD[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s";
    char *text;
    int length = asprintf(&text, HEAD, sizeof COMPLETION - 1, connection_header, COMPLETION);
    if (length < 0) exit(1);
    *a = (answer){text, (size_t)length};
}

static void set_up_process(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sigaction action = {.sa_handler = stop}; /* without SA_RESTART: epoll_wait returns */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: stub PORT [LATENCY_MS]\n");
        return 2;
    }
    latency = argc > 2 ? atof(argv[2]) / 1000 : 0;
    prepare_answer(&completed, "keep-alive");
    prepare_answer(&completed_last, "close");
    set_up_process();
    int listener = listen_on(atoi(argv[1]));
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    while (!stopped) {
        int count = epoll_wait(poller, events, EVENTS, serve_queue());
        for (int i = 0; i < count; i++) {
            connection *c = events[i].data.ptr;
            if (!c) accept_all(listener);
            else if (!(events[i].events & EPOLLOUT) || !c->sending || send_rest(c)) read_some(c);
        }
    }
    printf("{\"requests\":%ld,\"connections\":%ld,\"in_flight_max\":%ld,\"bytes\":%.0f,\"seconds\":%.3f}\n", requests,
           connections, in_flight_max, received, ended - began);
    return 0;
}
