/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The state of each process that can be checkpointed, and the controllers that wait for it: one at
 * a time, in the order in which they came, whatever they ask. That is why asking for the state
 * waits for a save or a load, as it does with the real driver.
 */

#include "checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "orders.h"

int checkpoint_open(struct client *thread)
{
    struct checkpoint *const made = calloc(1, sizeof(*made));

    if (!made)
        return -ENOMEM;
    made->thread = thread;
    made->last = &made->first;
    thread->checkpoint = made;
    return 0;
}

static void answer(const struct client *controller, int status, uint64_t value)
{
    const struct emu_reply reply = { .status = status, .values = { value } };

    if (controller)
        (void)send(controller->fd, &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void tell_thread(const struct checkpoint *checkpoint, enum emu_restore order, uint64_t value)
{
    const struct emu_reply packet = { .status = (int32_t)order, .values = { value } };

    /* One order at a time is under way, so there is always room for it. */
    (void)send(checkpoint->thread->fd, &packet, sizeof(packet), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drop_first(struct checkpoint *checkpoint)
{
    struct checkpoint_wait *const first = checkpoint->first;

    checkpoint->first = first->next;
    if (!checkpoint->first)
        checkpoint->last = &checkpoint->first;
    free(first);
}

static void finish(struct checkpoint *checkpoint, int status, uint64_t value)
{
    struct client *const controller = checkpoint->first->controller;

    if (controller)
        controller->is_waiting = false;
    answer(controller, status, value);
    drop_first(checkpoint);
}

/* The state that each operation needs. */
static bool is_legal(const struct checkpoint *checkpoint, enum emu_checkpoint what)
{
    switch (what) {
    case EMU_CHECKPOINT_LOCK:
        return checkpoint->state == CU_PROCESS_STATE_RUNNING;
    case EMU_CHECKPOINT_SAVE:
    case EMU_CHECKPOINT_UNLOCK:
        return checkpoint->state == CU_PROCESS_STATE_LOCKED;
    case EMU_CHECKPOINT_LOAD:
        return checkpoint->state == CU_PROCESS_STATE_CHECKPOINTED;
    case EMU_CHECKPOINT_STATE:
    case EMU_CHECKPOINT_THREAD:
    default:
        return true;
    }
}

/* Each of these returns CUDA_SUCCESS when the thread has been told, or what to answer at once. */

static int begin_lock(struct server *server, const struct checkpoint *checkpoint)
{
    /* NVIDIA/cuda-checkpoint issue 58, seen with 610.57: the driver calls into the library that is
     * gone. */
    if (server->options.driver >= 610 &&
        checkpoint_has_lost_nvml(server, checkpoint->thread->pid)) {
        checkpoint_fault(server, checkpoint->thread,
                         "cuCheckpointProcessLock crashes it: libnvidia-ml was unloaded without "
                         "nvmlShutdown");
        return CUDA_ERROR_OPERATING_SYSTEM;
    }
    tell_thread(checkpoint, EMU_RESTORE_LOCK, checkpoint->first->arg);
    return CUDA_SUCCESS;
}

static int begin_save(struct server *server, struct checkpoint *checkpoint)
{
    const pid_t pid = checkpoint->thread->pid;
    const struct checkpoint_refusal refusal = checkpoint_check(server, pid);

    if (refusal.fault) {
        checkpoint_fault(server, checkpoint->thread, refusal.fault);
        checkpoint->first->answer = refusal.status;
        if (refusal.then == EMU_RESTORE_FAIL)
            checkpoint->state = CU_PROCESS_STATE_FAILED;
        tell_thread(checkpoint, refusal.then, 0);
        return CUDA_SUCCESS;
    }
    if (refusal.status == CUDA_SUCCESS)
        tell_thread(checkpoint, EMU_RESTORE_SAVE, checkpoint_time_ns(server, pid, true));
    return (int)refusal.status;
}

/* The target is there: now its memory. */
static int begin_load(struct server *server, struct checkpoint *checkpoint)
{
    struct checkpoint_wait *const wait = checkpoint->first;
    const pid_t pid = checkpoint->thread->pid;
    int status =
        wait->cards ? checkpoint_check_cards(server, pid, wait->cards, wait->arg) : CUDA_SUCCESS;

    if (status == CUDA_SUCCESS && checkpoint->is_broken)
        status = CUDA_ERROR_OPERATING_SYSTEM;
    if (status == CUDA_SUCCESS && checkpoint_is_importer(server, pid))
        status = CUDA_ERROR_INVALID_VALUE; /* of another process's memory, and so it stays */
    if (status != CUDA_SUCCESS)
        return status;
    const uint64_t time_ns = checkpoint_time_ns(server, pid, false);
    status = checkpoint_take_again(server, pid);
    if (status == CUDA_SUCCESS)
        tell_thread(checkpoint, EMU_RESTORE_LOAD, time_ns);
    else
        checkpoint->is_broken = true;
    return status;
}

static int begin(struct server *server, struct checkpoint *checkpoint)
{
    if (!is_legal(checkpoint, checkpoint->first->what))
        return CUDA_ERROR_ILLEGAL_STATE;
    switch (checkpoint->first->what) {
    case EMU_CHECKPOINT_LOCK:
        return begin_lock(server, checkpoint);
    case EMU_CHECKPOINT_SAVE:
        return begin_save(server, checkpoint);
    case EMU_CHECKPOINT_UNLOCK:
        tell_thread(checkpoint, EMU_RESTORE_UNLOCK, 0);
        return CUDA_SUCCESS;
    case EMU_CHECKPOINT_STATE:
    case EMU_CHECKPOINT_THREAD:
    case EMU_CHECKPOINT_LOAD:
    default:
        tell_thread(checkpoint, EMU_RESTORE_TELL, 0);
        return CUDA_SUCCESS;
    }
}

/* Whoever is first now and has not been begun. Controllers that are gone never called. */
static void go_on(struct server *server, struct checkpoint *checkpoint)
{
    while (checkpoint->first) {
        if (!checkpoint->first->controller) {
            drop_first(checkpoint);
            continue;
        }
        const int status = begin(server, checkpoint);
        if (status == CUDA_SUCCESS)
            return;
        finish(checkpoint, status, 0);
    }
}

int checkpoint_ask(struct server *server, struct client *controller,
                   const struct emu_request *request)
{
    const uint64_t named = request->args[0];
    const enum emu_checkpoint what = (enum emu_checkpoint)(named >> 32 & 0xff);
    struct checkpoint *found = NULL;

    if (controller->role != EMU_ROLE_CONTROLLER || what < EMU_CHECKPOINT_STATE ||
        what > EMU_CHECKPOINT_UNLOCK || controller->is_waiting)
        return -EPROTO;
    const int status = checkpoint_find(server, controller, (pid_t)(uint32_t)named, &found);
    if (status != CUDA_SUCCESS) {
        answer(controller, status, 0);
        return 0;
    }
    struct checkpoint_wait *const wait = calloc(1, sizeof(*wait));
    if (!wait)
        return -ENOMEM;
    *wait = (struct checkpoint_wait){ .controller = controller,
                                      .what = what,
                                      .arg = request->args[1],
                                      .cards = (uint32_t)(named >> 40) & 0xffff };
    const bool is_first = !found->first;
    controller->is_waiting = true;
    *found->last = wait;
    found->last = &wait->next;
    if (is_first)
        go_on(server, found);
    return 0;
}

/* What was done, for the state and the books. Returns what the controller is told. */
static int settle(struct server *server, struct checkpoint *checkpoint, int status)
{
    const pid_t pid = checkpoint->thread->pid;

    switch (checkpoint->first->what) {
    case EMU_CHECKPOINT_LOCK:
        if (status == CUDA_SUCCESS)
            checkpoint->state = CU_PROCESS_STATE_LOCKED;
        break;
    case EMU_CHECKPOINT_SAVE:
        if (checkpoint->first->answer != CUDA_SUCCESS)
            return (int)checkpoint->first->answer;
        if (status != CUDA_SUCCESS)
            break;
        checkpoint->image_bytes = checkpoint_give_back(server, pid);
        checkpoint->state = CU_PROCESS_STATE_CHECKPOINTED;
        checkpoint->was_restored = false;
        break;
    case EMU_CHECKPOINT_LOAD:
        checkpoint->state = CU_PROCESS_STATE_LOCKED;
        checkpoint->was_restored = true;
        checkpoint->image_bytes = 0;
        break;
    case EMU_CHECKPOINT_UNLOCK:
        checkpoint->state = CU_PROCESS_STATE_RUNNING;
        break;
    case EMU_CHECKPOINT_STATE:
    case EMU_CHECKPOINT_THREAD:
    default:
        break;
    }
    return status;
}

int checkpoint_hear(struct server *server, struct client *thread, const struct emu_request *request)
{
    struct checkpoint *const checkpoint = thread->checkpoint;

    if (!checkpoint || !checkpoint->first)
        return -EPROTO;
    struct checkpoint_wait *const wait = checkpoint->first;
    if (wait->what == EMU_CHECKPOINT_LOAD && !wait->has_told) {
        wait->has_told = true;
        const int status = begin_load(server, checkpoint);
        if (status == CUDA_SUCCESS)
            return 0;
        finish(checkpoint, status, 0);
    } else {
        const int status = settle(server, checkpoint, (int)(uint32_t)request->args[0]);
        finish(checkpoint, status,
               wait->what == EMU_CHECKPOINT_THREAD ? request->args[1]
                                                   : (uint64_t)checkpoint->state);
    }
    go_on(server, checkpoint);
    return 0;
}

/* On the open kernel module of 595.71 the machine hung when a process that ran again after a
 * checkpoint was killed (NVIDIA/cuda-checkpoint issue 53). */
static void check_end(struct server *server, const struct checkpoint *checkpoint)
{
    if (server->options.driver == 595 && checkpoint->was_restored && !checkpoint->has_said_goodbye)
        checkpoint_fault(server, checkpoint->thread,
                         "was killed after a restore, which hangs the machine; lock and "
                         "checkpoint it first");
}

void checkpoint_close(struct server *server, struct client *thread)
{
    struct checkpoint *const checkpoint = thread->checkpoint;

    if (!checkpoint)
        return;
    if (server->tree.state <= TREE_LINGERING)
        check_end(server, checkpoint);
    for (bool is_first = true; checkpoint->first; is_first = false)
        finish(checkpoint, is_first ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_ERROR_NOT_INITIALIZED, 0);
    free(checkpoint);
    thread->checkpoint = NULL;
}

void checkpoint_forget(struct server *server, const struct client *client)
{
    for (struct client *it = server->clients; it; it = it->next) {
        struct checkpoint_wait *wait = it->checkpoint ? it->checkpoint->first : NULL;
        for (; wait; wait = wait->next) {
            if (wait->controller == client)
                wait->controller = NULL;
        }
    }
}
