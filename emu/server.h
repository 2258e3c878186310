/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_SERVER_H
#define EMU_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/error.h"
#include "books.h"
#include "orders.h"
#include "protocol.h"
#include "spans.h"

/*
 * The emulator's server: one process, one thread, one epoll loop. It is the gpus (capacity and
 * who holds what), and the parent of the command that runs on them.
 *
 *   card.c    a gpu: its bytes, its memfd, its counters
 *   client.c  a connection, which is a process, and its requests
 *   books.c   what is in use, charged by the processes themselves;  account.c  who has which
 * account lease.c   the places that processes have;  shared.c  memory that several of them refer to
 *   holding.c what processes hold, until they end
 *   tree.c    the command and everything it started: start, signals, the end of all of them
 *   stats.c   the counters as JSON;  script.c what tests order to go wrong;  schedule.c when
 *   checkpoint.h  processes whose memory goes to the host and comes back
 *   options.c the command line;  server.c the loop;  holder.c the foreign process of --leave
 */

#define NO_LEAVE   UINT64_MAX
#define TIMED_MAX  32
#define HOLDER_MAX 64

struct server;
struct client;
struct memory;
struct export;

/* Pages that one client has leased, or that handles refer to. */
struct extent {
    struct extent *previous, *next;
    uint64_t page, page_count;
    uint32_t gpu;
    struct memory *memory; /* owned; NULL: a lease */
};

struct card {
    struct emu_gpu_info info;
    char profile[32];
    char uuid[48];
    uint32_t host_gbps, device_gbps; /* how fast the card copies; 0: not known */
    uint64_t leave_bytes;            /* NO_LEAVE, or what a foreign process is to leave */
    int memfd;                       /* owned */
    struct spans spans;              /* free places of the memfd, in pages */
    struct extent **by_page; /* owned array, borrowed entries: the memory that starts there */
    struct books_at at;      /* the server's account here */
    uint64_t async_faults;
    uint64_t allocations; /* of processes that have ended */
};

/* An order, and when: after the command's start, then by the clock. */
struct timed {
    uint64_t due_ms;
    uint64_t period_ms;       /* 0: once */
    const char *order;        /* borrowed from argv, or own */
    char own[EMU_TEXT_BYTES]; /* of one that was given while the command runs */
    bool is_done;
};

struct options {
    struct timed timed[TIMED_MAX];
    size_t timed_count;
    bool is_timing;
    uint32_t modes; /* EMU_MODE_* */
    uint64_t free_lag_ms;
    bool is_async_late;
    bool is_keep;
    int driver;               /* branch, driver.h */
    bool is_slow;             /* copies take as long as on the cards */
    bool is_checkpoint_timed; /* checkpoints take as long as was measured */
    const char *state_dir;    /* borrowed from argv; NULL: temporary */
    const char *stats_file;   /* borrowed from argv; NULL: none */
    char **command;           /* borrowed from argv */
};

/* Something the loop waits for; embedded in its owner. */
struct watch {
    void (*on_ready)(struct server *server, struct watch *watch);
    int fd; /* borrowed */
};

/* Bytes of an ended process on their way back (--free-lag). */
struct late {
    struct late *next; /* owned */
    uint64_t due_ms;
    uint64_t bytes[EMU_GPU_MAX];
};

enum tree_state {
    TREE_HOLDING,   /* foreign processes take their memory first */
    TREE_RUNNING,   /* the command runs */
    TREE_LINGERING, /* it ended; what it started may stay (--keep) */
    TREE_ENDING,    /* everything was asked to end */
    TREE_KILLING,   /* everything is being killed */
    TREE_ENDED,
};

/* A foreign process: of --leave, or a hog that was ordered while the command runs. */
struct holder {
    struct watch watch;
    pid_t pid;
    uint32_t gpu;
    bool is_hog;
    uint64_t hold_ms; /* a hog, from when it holds on; CLOCK_NEVER_MS: until it is told */
    uint64_t end_ms;
    int in;  /* owned; its closing ends the holder */
    int out; /* owned */
};

struct tree {
    enum tree_state state;
    struct watch signals;
    int signal_fd; /* owned */
    pid_t command_pid;
    int status; /* the command's, as a shell tells it */
    uint64_t deadline_ms;
    size_t holder_count, holders_ready;
    struct holder holders[HOLDER_MAX];
};

struct server {
    struct options options;
    struct emu_orders *orders; /* owned mapping */
    int orders_fd;             /* owned */
    struct card cards[EMU_GPU_MAX];
    uint32_t card_count;
    struct books *books; /* owned mapping */
    int books_fd;        /* owned */
    int gone_fd;         /* owned: readable while an end of a process waits for us */
    struct client *by_account[BOOKS_ACCOUNT_MAX]; /* borrowed */
    uint32_t account_count;
    int epoll_fd, listen_fd; /* owned */
    struct watch listener;
    bool is_listening;      /* off while there are as many clients as may be */
    struct client *clients; /* owned */
    size_t client_count;
    size_t client_max;        /* by the limit of descriptors */
    struct rlimit file_limit; /* as the command is to have it */
    uint64_t number;          /* by which handles of this emulator are known */
    uint64_t last_serial;
    struct export *exports;  /* owned */
    struct extent *wipe;     /* owned; places to be punched before they are given out again */
    struct late *late_first; /* owned, by their time */
    uint64_t checkpoint_faults;
    bool is_killing_faults; /* what a real driver crashes at is killed */
    struct tree tree;
    char dir[96]; /* the private directory */
    char socket_path[108];
};

/* options.c: fills options and cards; prints what is wrong and returns the exit status, or 0. */
int options_read(struct server *server, int argc, char **argv);

/* card.c */
int card_open(struct card *card, uint32_t index, struct error *err);
void card_close(struct card *card);
/* Charge bytes: 0, or a CUresult that was counted. */
int card_charge(struct card *card, uint64_t bytes);
void card_release(struct card *card, uint64_t bytes);
void card_count_oom(const struct card *card);
/* Contexts, pages, and what is still to come back late. */
uint64_t card_used(const struct card *card);
/* Let the pages' bytes go, at most limit of them. Returns how many pages are left. */
uint64_t card_wipe(struct card *card, uint64_t page, uint64_t page_count, uint64_t limit);

/* account.c: the books, for the cards that are there. */
int account_open_books(struct server *server, struct error *err);
void account_close_books(struct server *server);

/* client.c */
int client_listen(struct server *server, struct error *err);
void client_close_all(struct server *server);

/* holding.c: give back late bytes that are due. */
void holding_settle(struct server *server, uint64_t now_ms);
/* Wipe a share of what ended processes left. True while there is more. */
bool holding_wipe_some(struct server *server);

/* tree.c */
int tree_open(struct server *server, struct error *err);
void tree_close(struct server *server);
/* Start the foreign processes, then the command. */
int tree_start(struct server *server, struct error *err);
void tree_on_deadline(struct server *server);

/* A hog that holds its memory for at most hold_ms, not 0. */
int tree_start_hog(struct server *server, uint32_t gpu, uint64_t bytes, uint64_t hold_ms,
                   struct error *err);
void tree_end_hogs(struct server *server, uint32_t gpu);
uint64_t tree_hogs_due_ms(const struct server *server);
void tree_settle_hogs(struct server *server, uint64_t now_ms);

/* schedule.c */
/* The command starts: those that are due at once, and the clock of the others. */
void schedule_start(struct server *server, uint64_t now_ms);
/* A copy of the order; once, or (period_ms) again and again. */
int schedule_add(struct server *server, uint64_t due_ms, uint64_t period_ms, const char *order,
                 struct error *err);
/* Those that recur end. */
void schedule_clear(struct server *server);
uint64_t schedule_due_ms(const struct server *server);
void schedule_settle(struct server *server, uint64_t now_ms);

/* script.c: orders of tests. */
int script_open(struct server *server, struct error *err);
void script_close(struct server *server);
int script_obey(struct server *server, const char *order, struct error *err);
/* Whether there is such an order at all: what waits for its time is looked at before. */
int script_check(const char *order, struct error *err);
/* Give an order to the emulator that we run in. Returns the exit status. */
int stats_order(const char *order);

/* server.c */
int server_watch(struct server *server, struct watch *watch);
void server_unwatch(struct server *server, struct watch *watch);

/* environment.c: the private directory, and the variables of the command. */
int environment_open(struct server *server, struct error *err);
void environment_close(struct server *server);
/* In a child, before exec: variables, limits, signals. 0 or -errno. */
int environment_apply(const struct server *server);

/* stats.c: text as of now; the caller frees it. NULL: no memory. */
char *stats_text(const struct server *server, size_t *ret_bytes);
int stats_write_file(const struct server *server, struct error *err);
/* Ask the emulator that we run in, and print. Returns the exit status. */
int stats_ask(void);

/* holder.c: the body of a foreign process. Returns the exit status. */
int holder_run(const char *gpu_text, const char *bytes_text);

#endif
