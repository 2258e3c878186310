/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BRIM_H
#define BRIM_H

/*
 * libbrim: ask brimd for GPU memory before you take it.
 *
 *     struct brim_claim claim = { .struct_bytes = sizeof(claim), .name = "whisper",
 *                                 .resident_bytes = 3ull << 30, .burst_bytes = 1ull << 30,
 *                                 .max_wait_ms = 60000 };
 *     brim_lease *lease;
 *     int r = brim_acquire(&claim, &lease);   // waits up to a minute
 *     ...load the model...
 *     brim_ready(lease);
 *     while (requests) {
 *         brim_burst_begin(lease, 0, BRIM_WAIT_FOREVER);   // 0: all of the claim's burst
 *         ...work...
 *         brim_burst_end(lease);
 *     }
 *     brim_release(lease);
 *
 * A lease is a connection: when the process ends, however it ends, the lease ends with it. When
 * the daemon ends, what was granted stays valid; the library starts or finds a new daemon and
 * takes the lease up again. All sizes are bytes as nvidia-smi shows them for the process tree: the
 * CUDA context is inside them.
 *
 * Errors: every function that can fail returns 0 or a negative BRIM_ERR_* code. Nothing here
 * exits, aborts, prints, starts a thread (but brim_thread_start()), or touches signals, errno,
 * umask or the working directory.
 *
 * Threads: one lease may be used by several threads at once; calls on it take turns, and a call
 * that waits (acquire, burst_begin) does not keep brim_burst_end() of another thread waiting.
 * Callbacks run inside brim_dispatch() or any call that waits, in that caller's thread. After
 * fork() the child must not use the parent's leases; calls there return BRIM_ERR_FORKED and
 * brim_release() only frees memory.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#    pragma GCC visibility push(default)
#endif

#define BRIM_ERROR_MAP(X)                                                                          \
    X(NOMEM, -1, "out of host memory")                                                             \
    X(INVALID, -2, "invalid argument")                                                             \
    X(NEVER_FITS, -3, "the claim is larger than any gpu can ever give")                            \
    X(NO_ROOM, -4, "no room in the time that was given")                                           \
    X(NO_DAEMON, -5, "brimd cannot be reached or started")                                         \
    X(VERSION, -6, "brimd speaks another version of the protocol")                                 \
    X(STATE, -7, "the lease is not in a state that allows this")                                   \
    X(FORKED, -8, "the lease belongs to the parent process")                                       \
    X(DENIED, -9, "brimd does not allow this")                                                     \
    X(LIMIT, -10, "a limit of brimd's is reached")                                                 \
    X(SYSTEM, -11, "a system call failed")                                                         \
    X(PROTOCOL, -12, "the other side does not keep to the protocol")                               \
    X(NO_GPU, -13, "there is no such gpu")                                                         \
    X(CANCELLED, -14, "cancelled")                                                                 \
    X(LOST, -15, "the lease was taken away")

enum brim_error_code {
#define X(name, value, message) BRIM_ERR_##name = (value),
    BRIM_ERROR_MAP(X)
#undef X
};

/* Static text for a code; never NULL, never freed. brim_error_name gives "NO_ROOM". Any thread. */
const char *brim_strerror(int code);
const char *brim_error_name(int code);

/* The library's version, "0.1.0". */
const char *brim_version(void);

#define BRIM_WAIT_FOREVER INT64_C(-1)
#define BRIM_NO_WAIT      INT64_C(0)

enum brim_priority {
    BRIM_PRIORITY_NORMAL = 0,
    BRIM_PRIORITY_INTERACTIVE = 1,
    BRIM_PRIORITY_BACKGROUND = 2,
};

/* What a holder asks for. Zero all of it first; struct_bytes = sizeof(struct brim_claim). */
struct brim_claim {
    uint32_t struct_bytes;
    uint32_t priority;        /* enum brim_priority */
    const char *name;         /* shown by brim ps, 1..63 bytes; NULL: the program's own name */
    const char *gpu;          /* index "0", UUID, or several with commas ("0,1": these bytes on
                                 each, all or none); NULL: where it fits best */
    uint64_t resident_bytes;  /* held all the time once loaded */
    uint64_t burst_bytes;     /* the most a request takes beyond it */
    uint64_t load_peak_bytes; /* the most while loading; 0: resident_bytes */
    int64_t max_wait_ms;      /* BRIM_NO_WAIT, BRIM_WAIT_FOREVER or milliseconds */
    uint64_t pid;             /* root of the process tree that uses the bytes; 0: this process */
    uint32_t flags;           /* BRIM_CLAIM_* */
    uint32_t reserved;
};

/* The lease lives as long as the connection or the process does: for a program that is about to
 * exec another (brim run), or for a running process that was adopted. */
#define BRIM_CLAIM_HELD_BY_PROCESS (UINT32_C(1) << 0)
/* Busy for life: charged resident + burst from the grant on (a program that cannot tell). */
#define BRIM_CLAIM_ALWAYS_BUSY (UINT32_C(1) << 1)
/* The bytes may be in use already (adoption): granted whatever the sum says. resident_bytes 0: what
 * the driver shows for the process now. */
#define BRIM_CLAIM_ADOPT (UINT32_C(1) << 2)
/* Nothing else on the gpu loads or begins a burst while this one loads (it sizes itself). */
#define BRIM_CLAIM_LOAD_ALONE (UINT32_C(1) << 3)

enum brim_lease_state {
    BRIM_LEASE_QUEUED = 1,
    BRIM_LEASE_LOADING = 2,
    BRIM_LEASE_IDLE = 3,
    BRIM_LEASE_BUSY = 4,
    BRIM_LEASE_REFUSED = 5,
    BRIM_LEASE_LOST = 6,
};

/* Why the last acquire, burst, bind or resize was refused, or what a queued one waits for. It
 * belongs to the lease and lasts until the next brim_lease_refusal() or brim_release(). */
struct brim_refusal {
    int code;             /* BRIM_ERR_NEVER_FITS, BRIM_ERR_NO_ROOM …; 0: it still waits */
    uint64_t id;          /* for `brim why` (0: not recorded) */
    uint64_t asked_bytes; /* what was asked, on that gpu */
    uint64_t free_bytes;  /* what could be granted at that moment */
    uint64_t capacity_bytes, reserve_bytes, foreign_bytes, charged_bytes;
    const char *text; /* the whole reason, for a person; one or more lines */
};

typedef struct brim_lease brim_lease;

/* Ask, and wait as long as the claim says. On failure *ret_lease is NULL, or a lease in state
 * REFUSED that only carries the reason (brim_lease_refusal) and must be released. */
int brim_acquire(const struct brim_claim *claim, brim_lease **ret_lease);

/* The same without blocking: returns at once with a lease in state QUEUED (or further). Watch
 * brim_lease_fd() and call brim_dispatch() until brim_lease_state() changes. max_wait_ms counts at
 * the daemon. */
int brim_acquire_start(const struct brim_claim *claim, brim_lease **ret_lease);

/* Give everything back and free the lease; NULL is fine. Also cancels a queued one. Calls that wait
 * in other threads return BRIM_ERR_CANCELLED. Allowed in a callback; no callback runs after it. */
void brim_release(brim_lease *lease);

enum brim_lease_state brim_lease_state(const brim_lease *lease);
uint64_t brim_lease_id(const brim_lease *lease);          /* 0 while queued */
const char *brim_lease_gpu_uuid(const brim_lease *lease); /* "" while queued; several: commas */
const struct brim_refusal *brim_lease_refusal(const brim_lease *lease); /* NULL: none */
int brim_lease_is_connected(const brim_lease *lease); /* 0 while the daemon is away */

/* Loading is over: from now on resident_bytes are charged, not the load peak. */
int brim_ready(brim_lease *lease);

/* The process tree that uses the bytes starts at this pid (a worker that was just spawned). */
int brim_lease_bind(brim_lease *lease, uint64_t pid);

/* Take up to the claim's burst for a request (0: all of it). Waits until it is granted. A burst
 * that is always possible by the law of progress is not refused, only late: NO_ROOM means that
 * max_wait_ms passed. STATE where one is already taken: bursts do not nest. */
int brim_burst_begin(brim_lease *lease, uint64_t bytes, int64_t max_wait_ms);
/* Without blocking: 0 = granted, 1 = waiting (state turns BUSY by brim_dispatch). */
int brim_burst_start(brim_lease *lease, uint64_t bytes, int64_t max_wait_ms);
int brim_burst_end(brim_lease *lease); /* also cancels one that still waits */

/* A hint that nothing is in progress here: ends a burst, if any, and allows a trim. */
int brim_idle(brim_lease *lease);

/* Change the claim. Shrinking is always granted; growing may be refused (NO_ROOM, or NO_DAEMON
 * while it is away), never waits for room, and then nothing changes. */
int brim_resize(brim_lease *lease, uint64_t resident_bytes, uint64_t burst_bytes);

/* Called when the daemon wants memory back: free what you can at a convenient place (caching
 * allocators, caches) and return how many bytes. Not called during a burst. */
typedef uint64_t (*brim_trim_callback)(brim_lease *lease, uint64_t wanted_bytes, void *user);
void brim_on_trim(brim_lease *lease, brim_trim_callback callback, void *user);

/* Called when the daemon wants the holder gone at its next boundary (a segment's end): finish,
 * then release. The reason is for people. */
typedef void (*brim_stop_callback)(brim_lease *lease, const char *reason, void *user);
void brim_on_stop(brim_lease *lease, brim_stop_callback callback, void *user);

/* For an event loop: a descriptor that is readable when brim_dispatch() has something to do. The
 * same one for the lease's life, also across a restart of the daemon. brim_dispatch never
 * blocks. */
int brim_lease_fd(const brim_lease *lease);
int brim_dispatch(brim_lease *lease);

/* For programs without an event loop: a thread that dispatches this lease (all signals blocked
 * in it). It ends with brim_release(). */
int brim_thread_start(brim_lease *lease);

/*
 * The worker side of a batch: segments come by $BRIM_FD, results go back.
 *
 *     brim_worker *worker;
 *     brim_worker_open(&worker);
 *     ...load the model...
 *     struct brim_segment segment;
 *     while (brim_worker_next(worker, &segment) == 1) {
 *         brim_worker_burst(worker, need_bytes);
 *         if (make_audio(segment.input, segment.out) == 0)
 *             brim_worker_done(worker);
 *         else
 *             brim_worker_failed(worker, "no speech in it");
 *     }
 *     brim_worker_close(worker);
 */
typedef struct brim_worker brim_worker;

/* Strings last until the next call of brim_worker_next(). */
struct brim_segment {
    uint64_t index;    /* 0 … */
    const char *id;    /* "000012" */
    const char *input; /* the line, the JSON object as text, or the file's path */
    const char *out;   /* write the result here; the batch puts it in its place */
};

int brim_worker_open(brim_worker **ret_worker); /* INVALID without $BRIM_FD */
void brim_worker_close(brim_worker *worker);
/* 1 = a segment; 0 = no more, end now; negative = BRIM_ERR_*. Runs flush callbacks in between. */
int brim_worker_next(brim_worker *worker, struct brim_segment *ret_segment);
/* Wait until this many bytes of the claim's burst are granted; given back at the segment's end. */
int brim_worker_burst(brim_worker *worker, uint64_t bytes);
int brim_worker_done(brim_worker *worker);
int brim_worker_failed(brim_worker *worker, const char *reason);
/* Called between segments: move the model to the host and back, so that the device memory is
 * whole again. Returns 0, or negative if it could not (the worker is then restarted). Registering
 * one tells the batch that this worker can flush. */
typedef int (*brim_flush_callback)(brim_worker *worker, void *user);
int brim_worker_on_flush(brim_worker *worker, brim_flush_callback callback, void *user);
/* Announce a heartbeat and send one: from then on silence for longer than $WATCHDOG_USEC counts
 * as a hang. Returns 0 where the batch asked for none. Any thread. */
int brim_worker_heartbeat(brim_worker *worker);

#ifdef __GNUC__
#    pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
