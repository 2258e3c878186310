/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Initialisation, versions, errors, and the door to the process's state.
 */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda_state.h"
#include "driver.h"
#include "restore.h"

/* Addresses for each byte of the memfds: room for reservations that are never filled. */
#define ADDRESS_SPARE 2

struct cuda cuda = { .lock = PTHREAD_MUTEX_INITIALIZER, .link = LINK_CLOSED, .gone_fd = -1 };
__thread bool cuda_is_in_callback;

/* A forked child finds the lock as it was in the parent, perhaps taken for ever: look first. */
CUresult cuda_enter_call(const char *call)
{
    if (cuda_is_in_callback)
        return CUDA_ERROR_NOT_PERMITTED;
    if (link_is_inherited(&cuda.link))
        return CUDA_ERROR_NOT_INITIALIZED;
    /* Before the lock, because a call may be ordered to hang. */
    const int32_t ordered = call ? orders_check(cuda.link.orders, call) : 0;
    if (ordered != 0)
        return (CUresult)ordered;
    (void)pthread_mutex_lock(&cuda.lock);
    if (cuda.link.fd >= 0)
        return CUDA_SUCCESS;
    (void)pthread_mutex_unlock(&cuda.lock);
    return CUDA_ERROR_NOT_INITIALIZED;
}

bool cuda_is_lost(const struct gpu *gpu)
{
    return cuda.link.orders &&
           (atomic_load(&cuda.link.orders->lost_gpus) >> gpu->server_index & 1) != 0;
}

CUresult context_check(const struct CUctx_st *context)
{
    if (cuda_is_lost(&cuda.gpus[context->gpu]))
        return CUDA_ERROR_UNKNOWN;
    return cuda.is_failed ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
}

CUresult cuda_enter_context_call(const char *call, struct CUctx_st **ret_context)
{
    CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    status = context_current(ret_context);
    if (status == CUDA_SUCCESS)
        status = context_check(*ret_context);
    return status == CUDA_SUCCESS ? status : cuda_leave(status);
}

CUresult cuda_leave(CUresult status)
{
    (void)pthread_mutex_unlock(&cuda.lock);
    return status;
}

CUresult cuda_ask(enum emu_op op, const struct gpu *gpu, uint64_t arg, struct emu_reply *ret_reply)
{
    const struct emu_request request = { .op = op, .gpu = gpu->server_index, .args = { arg } };
    const int status = link_call(&cuda.link, &request, ret_reply);

    return status < 0 ? CUDA_ERROR_UNKNOWN : (CUresult)status;
}

/* A bit a page, in whole words. */
static size_t written_bytes(const struct gpu *gpu)
{
    return (gpu->info.space_bytes / EMU_PAGE_BYTES / 64 + 1) * sizeof(uint64_t);
}

static int open_gpu(struct gpu *gpu, uint32_t server_index)
{
    const struct emu_request request = { .op = EMU_GPU_INFO, .gpu = server_index, .args = { 1 } };
    struct emu_reply reply = { 0 };

    *gpu = (struct gpu){ .server_index = server_index, .memfd = -1 };
    const int r =
        link_call_payload(&cuda.link, &request, &reply, &gpu->info, sizeof(gpu->info), &gpu->memfd);
    if (r != 0 || gpu->memfd < 0)
        return -EPROTO;
    void *const bytes = mmap(NULL, gpu->info.space_bytes, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_NORESERVE, gpu->memfd, 0);
    if (bytes == MAP_FAILED)
        return -ENOMEM;
    gpu->bytes = bytes;
    /* A child has no business with it, and need not copy its page tables. */
    (void)madvise(bytes, gpu->info.space_bytes, MADV_DONTFORK);
    void *const written = mmap(NULL, written_bytes(gpu), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (written == MAP_FAILED)
        return -ENOMEM;
    gpu->written = written;
    return spans_init(&gpu->places, 0);
}

static void close_gpu(struct gpu *gpu)
{
    if (gpu->bytes)
        (void)munmap(gpu->bytes, gpu->info.space_bytes);
    if (gpu->written)
        (void)munmap((void *)(uintptr_t)gpu->written, written_bytes(gpu));
    spans_deinit(&gpu->places);
    if (gpu->memfd >= 0)
        (void)close(gpu->memfd);
    *gpu = (struct gpu){ .memfd = -1 };
}

static bool uuid_has_prefix(const struct gpu *gpu, const char *text, size_t length)
{
    char uuid[48];
    const unsigned char *const id = gpu->info.uuid;

    (void)snprintf(uuid, sizeof(uuid),
                   "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10],
                   id[11], id[12], id[13], id[14], id[15]);
    return length > 4 && strncmp(uuid, text, length) == 0;
}

/* An index or the start of a UUID; -1 for what names no gpu. */
static int match_gpu(const struct gpu *all, uint32_t count, const char *text, size_t length)
{
    uint32_t index = 0;
    size_t i = 0;

    for (; i < length && isdigit((unsigned char)text[i]) && index < EMU_GPU_MAX; i++)
        index = index * 10 + (uint32_t)(text[i] - '0');
    if (length > 0 && i == length)
        return index < count ? (int)index : -1;
    for (index = 0; index < count; index++) {
        if (uuid_has_prefix(&all[index], text, length))
            return (int)index;
    }
    return -1;
}

/* CUDA_VISIBLE_DEVICES as the driver reads it: in its order, up to the first entry that names no
 * gpu; a gpu named twice leaves none. */
static void choose_visible(struct gpu *all, uint32_t count)
{
    const char *entry = secure_getenv("CUDA_VISIBLE_DEVICES");
    bool is_chosen[EMU_GPU_MAX] = { false };

    cuda.gpu_count = 0;
    while (entry) {
        const size_t length = strcspn(entry, ",");
        const int match = match_gpu(all, count, entry, length);
        if (match < 0)
            break;
        if (is_chosen[match]) {
            cuda.gpu_count = 0;
            break;
        }
        is_chosen[match] = true;
        cuda.gpus[cuda.gpu_count++] = all[match];
        entry = entry[length] == ',' ? entry + length + 1 : NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!secure_getenv("CUDA_VISIBLE_DEVICES"))
            cuda.gpus[cuda.gpu_count++] = all[i];
        else if (!is_chosen[i] || cuda.gpu_count == 0)
            close_gpu(&all[i]);
    }
}

static int open_gpus(uint32_t count)
{
    static struct gpu all[EMU_GPU_MAX]; /* under the lock */
    uint64_t space_bytes = 0;
    int r = 0;

    for (uint32_t i = 0; i < count; i++)
        all[i] = (struct gpu){ .memfd = -1 };
    for (uint32_t i = 0; i < count && r == 0; i++) {
        r = open_gpu(&all[i], i);
        space_bytes += ADDRESS_SPARE * all[i].info.space_bytes;
    }
    if (r == 0)
        r = space_open(space_bytes);
    if (r == 0) {
        choose_visible(all, count);
        return 0;
    }
    for (uint32_t i = 0; i < count; i++)
        close_gpu(&all[i]);
    return r;
}

/* As before cuInit, which can be tried again. */
static void uninitialise(void)
{
    for (uint32_t i = 0; i < cuda.gpu_count; i++)
        close_gpu(&cuda.gpus[i]);
    cuda.gpu_count = 0;
    link_close(&cuda.link);
}

static CUresult initialise(void)
{
    struct emu_reply hello = { 0 };
    int r = link_open(&cuda.link, EMU_ROLE_CUDA, &hello);

    if (r != 0)
        return CUDA_ERROR_NO_DEVICE;
    /* Before the process has an account, which it keeps until it ends. */
    const int32_t ordered = orders_check(cuda.link.orders, "cuInit");
    if (ordered != 0) {
        uninitialise();
        return (CUresult)ordered;
    }
    cuda.is_late = (hello.values[1] & EMU_HELLO_ASYNC_LATE) != 0;
    cuda.emulator = hello.values[2];
    r = hello.values[0] > EMU_GPU_MAX ? -EPROTO : open_gpus((uint32_t)hello.values[0]);
    const bool is_blind = r == 0 && cuda.gpu_count == 0;
    if (r == 0 && !is_blind)
        r = places_open();
    if (r == 0 && !is_blind)
        return CUDA_SUCCESS;
    uninitialise();
    return is_blind ? CUDA_ERROR_NO_DEVICE : CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult cuInit(unsigned int flags)
{
    const int saved_errno = errno;
    CUresult status = CUDA_SUCCESS;

    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (link_is_inherited(&cuda.link))
        return CUDA_ERROR_NOT_INITIALIZED;
    (void)pthread_mutex_lock(&cuda.lock);
    if (cuda.link.fd >= 0) {
        status = (CUresult)orders_check(cuda.link.orders, "cuInit");
    } else {
        status = initialise();
        if (status == CUDA_SUCCESS)
            restore_start();
    }
    errno = saved_errno;
    return cuda_leave(status);
}

CUresult cuDriverGetVersion(int *version)
{
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = driver_own()->cuda_version;
    return CUDA_SUCCESS;
}

static const struct {
    CUresult code;
    const char *name, *text;
} results[] = {
#define X(name, value, text) { name, #name, text },
    CUDA_RESULT_MAP(X)
#undef X
};

CUresult cuGetErrorName(CUresult error, const char **text)
{
    if (!text)
        return CUDA_ERROR_INVALID_VALUE;
    *text = NULL;
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i].code == error)
            *text = results[i].name;
    }
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    if (!text)
        return CUDA_ERROR_INVALID_VALUE;
    *text = NULL;
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i].code == error)
            *text = results[i].text;
    }
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
