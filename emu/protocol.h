/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_PROTOCOL_H
#define EMU_PROTOCOL_H

#include <stdint.h>

/*
 * What the emulated libraries and the emulator's server say to each other, over a SOCK_SEQPACKET
 * unix socket whose path is in $BRIM_EMU_SOCKET.
 *
 * One request packet, one reply packet, in turn. Both ends are of one build on one machine, so the
 * packets are these structs; the server still checks every number, because any program of the
 * user's can connect. The connection is the process: when it ends, what it held is given back.
 *
 * Bytes live in one sparse memfd a gpu, handed over with EMU_GPU_INFO. The server leases places in
 * it to a process, in pages of EMU_PAGE_BYTES and many at a time; the process charges itself in the
 * books (books.h) and puts its allocations where it has room, without a word to the server. The
 * memfd is EMU_SPARE times as long as the card, so that a request never fails for want of one
 * contiguous place: a gpu pages its memory and does not fragment. What is not in use is a hole and
 * costs nothing.
 */

#define EMU_VERSION     UINT32_C(1)
#define EMU_PAGE_BYTES  (UINT64_C(2) << 20)
#define EMU_SPARE       UINT64_C(16)
#define EMU_GPU_MAX     16
#define EMU_PROCESS_MAX 2048
#define EMU_TEXT_BYTES  192

enum emu_op {
    EMU_HELLO = 1,      /* args: EMU_VERSION, enum emu_role -> gpu count, EMU_HELLO_*, a number of
                         * this emulator alone */
    EMU_GPU_INFO,       /* -> struct emu_gpu_info; with the memfd, if args[0] is 1 */
    EMU_CONTEXT_ADD,    /* the first of a process charges the context's overhead */
    EMU_CONTEXT_REMOVE, /* the last of a process gives it back */
    EMU_LEASE,          /* args: bytes, fewest bytes -> offset, bytes, how many may lie idle */
    EMU_UNLEASE,        /* args: offset, bytes: of what was leased, whether or not at once */
    EMU_MEMORY,         /* -> total, used */
    EMU_PROCESSES,      /* -> struct emu_process times reply.count */
    EMU_BOOKS,          /* args: enum emu_books -> account, with a descriptor */
    EMU_FAULT,          /* payload: text; the library saw pending work's bytes freed or reused */
    EMU_STATS,          /* -> JSON text */
    EMU_ADOPT,          /* args: offset, bytes: leased and charged; from now on referred to */
    EMU_DROP,           /* args: offset; one reference of this process less -> how many processes
                         * refer to it still */
    EMU_EXPORT,         /* args: offset -> a descriptor that is a reference too */
    EMU_IMPORT,         /* with such a descriptor -> offset, bytes, gpu; one reference more */
    EMU_CONTROL,        /* payload: an order of script.c -> text of what is wrong with it */
    EMU_SHARE,          /* args: offset -> a serial by which other processes open it */
    EMU_OPEN,           /* args: offset, its serial -> bytes; one reference of this process more */
    /* checkpoint.h */
    EMU_CHECKPOINT, /* args: EMU_CHECKPOINT_OF(...), timeout or cards -> state or thread; late */
    EMU_RESTORE,    /* args: status, thread: what the restore thread did; no answer */
    EMU_PLACES,     /* args: the first -> struct emu_place times reply.count; values[0]: all */
    EMU_NVML_GONE,  /* libnvidia-ml was unloaded without nvmlShutdown */
    EMU_GOODBYE,    /* the process runs its exit handlers; no answer */
    EMU_MANAGED,    /* args: bytes of managed memory, and how many of them are to be on the card ->
                     * how many are */
    EMU_ROOM,       /* args: bytes -> whether so much is free, after managed memory has given way */
};

enum emu_role {
    EMU_ROLE_CUDA = 1,
    EMU_ROLE_NVML = 2,
    EMU_ROLE_CONTROLLER = 3, /* one call of cuCheckpointProcess… */
    EMU_ROLE_RESTORE = 4,    /* the restore thread: it gets orders, and answers them */
};

enum emu_books {
    EMU_BOOKS_FILE, /* struct books */
    EMU_BOOKS_GONE, /* polls readable while the server has not settled somebody's end */
};

#define EMU_HELLO_ASYNC_LATE UINT64_C(1)

/* What a controller asks of a process. */
enum emu_checkpoint {
    EMU_CHECKPOINT_STATE = 1,
    EMU_CHECKPOINT_THREAD,
    EMU_CHECKPOINT_LOCK,
    EMU_CHECKPOINT_SAVE,
    EMU_CHECKPOINT_LOAD,
    EMU_CHECKPOINT_UNLOCK,
};
/* cards: a bit for each that is named in pairs; args[1] then has the new one's number for each, in
 * four bits. */
#define EMU_CHECKPOINT_OF(what, pid, cards)                                                        \
    ((uint64_t)(uint32_t)(pid) | (uint64_t)(what) << 32 | (uint64_t)(cards) << 40)

/* What the server tells a restore thread to do: a struct emu_reply whose status is this. */
enum emu_restore {
    EMU_RESTORE_TELL = 1, /* whether it is there, and its thread id */
    EMU_RESTORE_LOCK,     /* values: milliseconds to try, 0: for ever */
    EMU_RESTORE_SAVE,     /* values: nanoseconds that it takes at least */
    EMU_RESTORE_LOAD,     /* values: as above */
    EMU_RESTORE_UNLOCK,
    EMU_RESTORE_FAIL,  /* unlock; from now on calls fail */
    EMU_RESTORE_BREAK, /* stay locked; later on calls fail */
};

struct emu_request {
    uint32_t op;
    uint32_t gpu;
    uint64_t args[2];
    char text[EMU_TEXT_BYTES]; /* EMU_FAULT and EMU_CONTROL only; the others end before it */
};
#define EMU_REQUEST_BYTES ((size_t)offsetof(struct emu_request, text))

/* status is a CUresult. A payload follows in the same packet where the op says so. */
struct emu_reply {
    int32_t status;
    uint32_t count;
    uint64_t values[3];
};

struct emu_gpu_info {
    uint64_t capacity_bytes;
    uint64_t context_bytes;
    uint64_t space_bytes; /* length of the memfd */
    uint32_t compute_major, compute_minor;
    uint32_t multiprocessor_count;
    uint32_t reserved;
    unsigned char uuid[16];
    char product[64];
};

/* Memory that a checkpoint saves. */
struct emu_place {
    uint32_t gpu;
    uint32_t page_count;
    uint64_t offset;
};
#define EMU_PLACE_MAX 1024

/* args[0] of EMU_FAULT */
#define EMU_FAULT_ASYNC      UINT64_C(0)
#define EMU_FAULT_CHECKPOINT UINT64_C(1)

struct emu_process {
    uint32_t pid;
    uint32_t reserved;
    uint64_t used_bytes;
};

#endif
