/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The restore thread: it waits for the server's orders, one at a time, and answers each. To lock it
 * takes the library's lock when nothing that was submitted is left, and keeps it until the unlock,
 * so that calls of the program wait where they would wait for each other.
 */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "restore.h"
#include "stream.h"

#define STACK_BYTES ((size_t)256 << 10)
#define NEVER_NS    UINT64_MAX

static struct {
    struct link link;
    _Atomic uint32_t state;       /* CUprocessState, as far as calls of this process ask */
    _Atomic uint32_t work_count;  /* a futex: work under way without the lock */
    _Atomic uint32_t drain_count; /* a futex: drains that have ended */
} restore = { .link = LINK_CLOSED };

enum {
    RUNNING,
    LOCKED,
    AWAY, /* the memory is in the image */
};

static uint64_t now_ns(void)
{
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static struct timespec make_time(uint64_t ns)
{
    return (struct timespec){ (time_t)(ns / 1000000000U), (long)(ns % 1000000000U) };
}

/* Until the number is another one. False: the time is over. */
static bool wait_change(_Atomic uint32_t *number, uint32_t known, uint64_t deadline_ns)
{
    const struct timespec deadline = make_time(deadline_ns);

    while (atomic_load(number) == known) {
        if (syscall(SYS_futex, number, FUTEX_WAIT_BITSET_PRIVATE, known,
                    deadline_ns == NEVER_NS ? NULL : &deadline, NULL, FUTEX_BITSET_MATCH_ANY) < 0 &&
            errno == ETIMEDOUT)
            return false;
    }
    return true;
}

static void wake(_Atomic uint32_t *number)
{
    (void)syscall(SYS_futex, number, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void restore_begin_work(void)
{
    (void)atomic_fetch_add(&restore.work_count, 1);
}

void restore_end_work(void)
{
    const int saved_errno = errno;

    /* Only a lock under way waits for it, and that holds the library's lock: who finds it free need
     * not wake anybody, but asking costs as much as waking. */
    if (atomic_fetch_sub(&restore.work_count, 1) == 1 && atomic_load(&restore.state) != RUNNING)
        wake(&restore.work_count);
    errno = saved_errno;
}

static void report_sync(const char *call)
{
    struct emu_request request = { .op = EMU_FAULT, .args = { EMU_FAULT_CHECKPOINT } };
    struct emu_reply reply = { 0 }, hello = { 0 };
    struct link link = LINK_CLOSED;

    /* The process's own connection is the restore thread's while it is locked. */
    (void)snprintf(request.text, sizeof(request.text),
                   "%s while its memory is away crashes in the driver; only a synchronisation that "
                   "comes after the restore is safe",
                   call);
    if (link_open(&link, EMU_ROLE_CONTROLLER, &hello) == 0)
        (void)link_call(&link, &request, &reply);
    link_close(&link);
}

bool restore_passes_sync(const char *call)
{
    const uint32_t state = atomic_load_explicit(&restore.state, memory_order_acquire);

    if (state == RUNNING || cuda_is_in_callback || link_is_inherited(&cuda.link))
        return false;
    if (state == AWAY)
        report_sync(call);
    return state == LOCKED;
}

static bool has_work(void)
{
    for (uint32_t slot = 0; slot < stream_slot_count(); slot++) {
        const struct stream *const stream = stream_at(slot);
        if (stream && stream_done(slot) < stream->enqueued)
            return true;
    }
    return false;
}

/* Does all that was submitted. A thread of its own, because a piece can take longer than a lock is
 * to be tried for. */
static void *drain(void *unused)
{
    (void)pthread_mutex_lock(&cuda.lock);
    for (uint32_t slot = 0; slot < stream_slot_count(); slot++) {
        const struct stream *const stream = stream_at(slot);
        if (stream)
            stream_run(slot, stream->enqueued);
    }
    (void)pthread_mutex_unlock(&cuda.lock);
    (void)atomic_fetch_add(&restore.drain_count, 1);
    wake(&restore.drain_count);
    return unused;
}

static bool start_thread(void *(*run)(void *))
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;

    (void)sigfillset(&all);
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool is_started = pthread_create(&thread, &attributes, run, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return is_started;
}

static bool take_lock(uint64_t deadline_ns)
{
    const struct timespec deadline = make_time(deadline_ns);

    return (deadline_ns == NEVER_NS
                ? pthread_mutex_lock(&cuda.lock)
                : pthread_mutex_clocklock(&cuda.lock, CLOCK_MONOTONIC, &deadline)) == 0;
}

/* Work that is done without the lock, which the caller holds. */
static bool wait_for_work(uint64_t deadline_ns)
{
    uint32_t count = 0;

    while ((count = atomic_load(&restore.work_count)) > 0) {
        if (!wait_change(&restore.work_count, count, deadline_ns))
            return false;
    }
    return true;
}

/* What was submitted is done in the meantime. */
static bool wait_for_drain(uint64_t deadline_ns)
{
    const uint32_t count = atomic_load(&restore.drain_count);

    (void)pthread_mutex_unlock(&cuda.lock);
    if (!start_thread(drain))
        (void)drain(NULL);
    return wait_change(&restore.drain_count, count, deadline_ns);
}

/* Holds the library's lock on success, with nothing under way. */
static CUresult lock(uint64_t timeout_ms)
{
    const uint64_t deadline_ns = timeout_ms > 0 ? now_ns() + timeout_ms * 1000000 : NEVER_NS;

    do {
        if (!take_lock(deadline_ns))
            return CUDA_ERROR_NOT_READY;
        if (has_work())
            continue;
        atomic_store(&restore.state, LOCKED);
        if (wait_for_work(deadline_ns))
            return CUDA_SUCCESS;
        atomic_store(&restore.state, RUNNING);
        (void)pthread_mutex_unlock(&cuda.lock);
        return CUDA_ERROR_NOT_READY;
    } while (wait_for_drain(deadline_ns));
    return CUDA_ERROR_NOT_READY;
}

static CUresult unlock(bool is_failed)
{
    cuda.is_failed = cuda.is_failed || is_failed;
    atomic_store(&restore.state, RUNNING);
    (void)pthread_mutex_unlock(&cuda.lock);
    return CUDA_SUCCESS;
}

static void sleep_until(uint64_t ns)
{
    const struct timespec end = make_time(ns);

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        continue;
}

static CUresult save(uint64_t time_ns)
{
    const uint64_t start_ns = now_ns();
    const CUresult status = image_save(&restore.link);

    if (status != CUDA_SUCCESS)
        return status;
    if (time_ns > 0)
        sleep_until(start_ns + time_ns);
    atomic_store(&restore.state, AWAY);
    return CUDA_SUCCESS;
}

static CUresult load(uint64_t time_ns)
{
    const uint64_t start_ns = now_ns();

    image_load();
    if (time_ns > 0)
        sleep_until(start_ns + time_ns);
    atomic_store(&restore.state, LOCKED);
    return CUDA_SUCCESS;
}

static CUresult obey(const struct emu_reply *order)
{
    switch (order->status) {
    case EMU_RESTORE_LOCK:
        return lock(order->values[0]);
    case EMU_RESTORE_SAVE:
        return save(order->values[0]);
    case EMU_RESTORE_LOAD:
        return load(order->values[0]);
    case EMU_RESTORE_UNLOCK:
        return unlock(false);
    case EMU_RESTORE_FAIL:
        return unlock(true);
    case EMU_RESTORE_BREAK:
        cuda.is_failed = true;
        return CUDA_SUCCESS;
    default:
        return CUDA_SUCCESS;
    }
}

/* Named as the real one: "cuda" and hexadecimal digits. */
static void *serve(void *unused)
{
    const pid_t thread = (pid_t)syscall(SYS_gettid);
    struct emu_reply order = { 0 };
    char name[16];

    (void)snprintf(name, sizeof(name), "cuda%08x", (unsigned)thread);
    (void)pthread_setname_np(pthread_self(), name);
    while (link_receive(&restore.link, &order) == 0) {
        const struct emu_request done = { .op = EMU_RESTORE,
                                          .args = { obey(&order), (uint64_t)thread } };
        if (link_send(&restore.link, &done) != 0)
            break;
    }
    return unused;
}

void restore_start(void)
{
    struct emu_reply hello = { 0 };

    if (link_open(&restore.link, EMU_ROLE_RESTORE, &hello) == 0 && !start_thread(serve))
        link_close(&restore.link);
}

/* A process that runs its exit handlers was not killed. */
__attribute__((destructor)) static void say_goodbye(void)
{
    const struct emu_request goodbye = { .op = EMU_GOODBYE };

    if (restore.link.fd >= 0 && !link_is_inherited(&restore.link))
        (void)link_send(&restore.link, &goodbye);
}
