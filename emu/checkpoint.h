/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_CHECKPOINT_H
#define EMU_CHECKPOINT_H

#include "client.h"
#include "cuda/checkpoint.h"

/*
 * Checkpoints: a process's device memory goes into its own host memory, its bytes back to the card,
 * and later all of it to where it was.
 *
 * As with the real driver three take part: the controller, which called cuCheckpointProcess…; the
 * restore thread, which the driver has started in the target; and, between them, this server,
 * which keeps the state and the card's books. A controller that dies does not stop what it began. A
 * target that is stopped answers nobody.
 *
 *                 lock                  save (the bytes come back)
 *      RUNNING ---------> LOCKED ------------------------------------> CHECKPOINTED
 *         ^      unlock   |   ^        load (all of it is taken again)  |      |
 *         +---------------+   +-----------------------------------------+      | no room: what
 * there |                                                    | was is kept, and | a hazard of some
 * drivers                           v no load ever works v CHECKPOINTED, broken FAILED
 *
 *   checkpoint.c          the states, and whose turn it is
 *   checkpoint_target.c   which process a pid means, and who may touch it
 *   checkpoint_books.c    what is given back and taken again, and how long it takes
 *   cuda_checkpoint.c     in the library: the controller
 *   cuda_restore.c        in the library: the restore thread;  cuda_image.c: what it saves
 */

struct checkpoint_wait {
    struct checkpoint_wait *next;
    struct client *controller; /* borrowed; NULL: it is gone */
    enum emu_checkpoint what;
    uint64_t arg;
    uint32_t cards;
    bool has_told;   /* a load: the target is there */
    CUresult answer; /* to a save that went wrong; else what the target answers */
};

struct checkpoint {
    struct client *thread; /* borrowed: the restore thread's connection */
    CUprocessState state;
    bool is_broken;    /* a load ran out of memory, or never can be */
    bool was_restored; /* and runs since */
    bool has_said_goodbye;
    uint64_t image_bytes;                  /* what it has given back */
    struct checkpoint_wait *first, **last; /* owned; the first one is under way */
};

int checkpoint_open(struct client *thread);
/* The process has ended: whoever waits is told. */
void checkpoint_close(struct server *server, struct client *thread);
/* A controller's request. Negative: close it; else it is answered now or later. */
int checkpoint_ask(struct server *server, struct client *controller,
                   const struct emu_request *request);
/* The restore thread's answer. Negative: close it. */
int checkpoint_hear(struct server *server, struct client *thread,
                    const struct emu_request *request);
/* The client is gone: nobody answers it any more. */
void checkpoint_forget(struct server *server, const struct client *client);

/* checkpoint_target.c: the checkpoint of the process that a pid means. A CUresult. */
int checkpoint_find(struct server *server, const struct client *controller, pid_t pid,
                    struct checkpoint **ret_checkpoint);
/* Something that a real driver would crash at: told, counted, and done if that was ordered. */
void checkpoint_fault(struct server *server, const struct client *target, const char *text);
/* Whether the process has unloaded NVML without shutting it down. */
bool checkpoint_has_lost_nvml(const struct server *server, pid_t pid);

/* Whether it has threads of PyTorch's NCCL process group. */
bool checkpoint_has_nccl(pid_t pid);

/* checkpoint_books.c */
/* Whether the process can be saved, and what the driver makes of one that can not. */
struct checkpoint_refusal {
    CUresult status;       /* CUDA_SUCCESS: it can */
    const char *fault;     /* what is told; NULL: nothing */
    enum emu_restore then; /* the order that goes with a fault */
};
struct checkpoint_refusal checkpoint_check(const struct server *server, pid_t pid);
bool checkpoint_is_importer(const struct server *server, pid_t pid);
/* Returns how many bytes that were. */
uint64_t checkpoint_give_back(struct server *server, pid_t pid);
/* CUDA_SUCCESS, or CUDA_ERROR_OUT_OF_MEMORY: then what there was has been taken, and is listed for
 * nobody. */
int checkpoint_take_again(struct server *server, pid_t pid);
/* Whether the pairs name each card that the process was on, and one of the same kind. */
int checkpoint_check_cards(const struct server *server, pid_t pid, uint32_t cards, uint64_t to);
uint64_t checkpoint_time_ns(const struct server *server, pid_t pid, bool is_save);
/* From first on. Returns how many, of *ret_all. */
uint32_t checkpoint_places(const struct server *server, pid_t pid, uint64_t first,
                           struct emu_place list[EMU_PLACE_MAX], uint64_t *ret_all);
/* What lies in the host memory of all processes. */
uint64_t checkpoint_image_bytes(const struct server *server);

#endif
