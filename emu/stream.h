/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_STREAM_H
#define EMU_STREAM_H

#include "cuda_state.h"

/*
 * Streams: queues of work that is done late.
 *
 * With --async=late nothing in a stream is done before somebody waits for it: a synchronisation, a
 * blocking copy on the legacy stream, an event, or a query, which lets one piece be done and
 * answers "not ready". With --async=eager everything is done at once and no queue ever holds
 * anything.
 *
 * Each piece of work has a position in its stream; positions only grow. What a stream is ordered
 * after is a clock: a position for each stream (a vector clock). Work on the same bytes in two
 * streams is a fault unless one is ordered after the other; so is freeing bytes that waiting work
 * touches. A fault is counted and printed by the server; then the waiting work is done first, as
 * a lucky schedule would, and the program goes on.
 *
 *   stream.c      queues, clocks, execution      cuda_stream.c  entry points of streams
 *   race.c        who touches what               cuda_event.c   entry points of events
 */

/* One end of a copy: device bytes or host bytes. */
struct end {
    const struct gpu *gpu; /* NULL: host */
    unsigned char *host;
    uint64_t offset; /* in the gpu's memfd */
};

enum work_kind {
    WORK_COPY,
    WORK_FILL,
    WORK_WAIT, /* for a position of another stream */
    WORK_MARK, /* an event passes */
    WORK_CALL, /* a function of the host */
    WORK_FREE, /* a piece of a pool's memory */
};

struct work {
    struct work *next; /* owned */
    enum work_kind kind;
    uint64_t position;
    struct end to, from;
    size_t bytes;
    size_t rows; /* of so many bytes each, a pitch apart; 0 or 1: one */
    size_t to_pitch, from_pitch;
    uint32_t value; /* FILL */
    unsigned value_bytes;
    unsigned char *staged; /* owned: a copy of pageable source bytes; NULL: none */
    uint32_t wait_slot;    /* WAIT */
    uint64_t wait_position;
    CUevent event; /* MARK: may be gone or recorded anew when its turn comes */
    uint64_t event_serial;
    void (*function)(void *); /* CALL */
    void *data;
};

struct clock {
    uint64_t *positions; /* owned; by slot, what is beyond count is 0 */
    uint32_t count;
};

struct stream {
    struct stream *previous, *next; /* of the context */
    struct CUctx_st *context;       /* borrowed */
    CUstream handle;
    unsigned flags;
    int priority;
    bool is_legacy;
    uint32_t slot; /* its place in clocks, taken over by another stream after its end */
    uint64_t id;
    struct work *first, **last; /* owned */
    uint64_t enqueued, done;    /* positions */
    struct clock after;         /* what its next work is ordered after */
};

/* The stream that a caller means: 0 or CU_STREAM_LEGACY is the context's legacy stream,
 * CU_STREAM_PER_THREAD the thread's own. CUDA_ERROR_INVALID_HANDLE, _OUT_OF_MEMORY. */
CUresult stream_find(struct CUctx_st *context, CUstream handle, struct stream **ret_stream);
CUresult stream_new(struct CUctx_st *context, unsigned flags, int priority,
                    struct stream **ret_stream);
/* Whatever waits in it is done first. */
void stream_free(struct stream *stream);
void stream_free_all(struct CUctx_st *context);

/* Queue one piece of work (a copy of *work, whose staged bytes are taken over on success). */
CUresult stream_enqueue(struct stream *stream, const struct work *work);
/* Order what comes next in the stream after a position and all that it was ordered after. */
CUresult stream_wait(struct stream *stream, uint32_t slot, uint64_t position,
                     const struct clock *clock);

/* Do what waits, up to a position of a slot. */
void stream_run(uint32_t slot, uint64_t position);
/* All that a caller who waits for this stream waits for: the legacy one means all blocking ones. */
void stream_run_all(struct stream *stream);
void stream_run_context(struct CUctx_st *context);
/* Whether something waits; if so, one piece of it is done. */
bool stream_step(uint32_t slot, uint64_t position);
uint64_t stream_done(uint32_t slot);
/* Before blocking work: do what the stream's next work comes after. */
CUresult stream_settle(struct stream *stream);

/* All streams of the process; NULL where a slot is free. */
struct stream *stream_at(uint32_t slot);
uint32_t stream_slot_count(void);

/* Bytes from the start of its first row to the end of its last. */
static inline uint64_t work_span(const struct work *work, size_t pitch)
{
    return work->rows > 1 ? (work->rows - 1) * (uint64_t)pitch + work->bytes : work->bytes;
}

/* The work itself, at once. Outside of the lock where no queue is concerned. */
void work_do(struct work *work);

/* race.c: report work that touches the same bytes as waiting work it is not ordered after; for
 * blocking work stream is the one that it was ordered by. */
void race_check(const struct stream *stream, const struct work *work, const char *call);
/* Report and finish waiting work on bytes that are about to be freed. */
void race_check_free(const struct end *end, uint64_t bytes, const char *call);

/* cuda_event.c */
void event_pass(CUevent event, uint64_t serial);
void event_free_all(const struct CUctx_st *context);
CUresult event_new(const struct CUctx_st *context, unsigned flags, CUevent *ret_event);
/* Whether it was made for other processes; *ret_is_event: whether it is one at all. */
bool event_is_interprocess(CUevent event, bool *ret_is_event);

/* cuda_host.c: whether the driver knows all of these host bytes as pinned. */
bool host_is_pinned(const void *memory, size_t bytes);

struct host_range {
    unsigned char *start;
    size_t bytes;
    unsigned flags;
    bool is_registered; /* the caller's memory; else from cuMemAllocHost */
    uint64_t id;
    const struct CUctx_st *context; /* borrowed */
};
const struct host_range *host_find(const void *memory);
void host_free_all(const struct CUctx_st *context);

#endif
