/* SPDX-License-Identifier: Apache-2.0 */

/* Handles of memory and of events, and pools, as another process gets them. The other process is
 * this program again: it opens what it is given and says what the driver answered. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"
#include "cuda/ipc.h"

struct question {
    CUipcMemHandle memory;
    CUipcEventHandle event;
};

struct answers {
    CUresult wrong_flags, open, open_again, read, free, close, close_last, close_more;
    CUresult event_open, event_wait, event_query, event_destroy;
    unsigned char byte;
    bool is_same_address;
};

static void ask(const struct question *question, struct answers *answers)
{
    CUdeviceptr address = 0, again = 0;
    CUevent event = NULL;

    answers->wrong_flags = DRV(cuIpcOpenMemHandle_v2)(&address, question->memory, 0);
    answers->open = DRV(cuIpcOpenMemHandle_v2)(&address, question->memory, 1);
    answers->open_again = DRV(cuIpcOpenMemHandle_v2)(&again, question->memory, 1);
    answers->is_same_address = address == again;
    answers->read = DRV(cuMemcpyDtoH_v2)(&answers->byte, address, 1);
    answers->close = DRV(cuIpcCloseMemHandle)(address);
    answers->close_last = DRV(cuIpcCloseMemHandle)(address);
    answers->close_more = DRV(cuIpcCloseMemHandle)(address);
    answers->event_open = DRV(cuIpcOpenEventHandle)(&event, question->event);
    answers->event_wait = DRV(cuStreamWaitEvent)(NULL, event, 0);
    (void)DRV(cuCtxSynchronize)();
    answers->event_query = DRV(cuEventQuery)(event);
    answers->event_destroy = DRV(cuEventDestroy_v2)(event);
}

int conform_ipc_other(void)
{
    struct question question;
    struct answers answers = { 0 };

    if (read(STDIN_FILENO, &question, sizeof(question)) != (ssize_t)sizeof(question))
        return EXIT_FAILURE;
    ask(&question, &answers);
    return write(STDOUT_FILENO, &answers, sizeof(answers)) == (ssize_t)sizeof(answers)
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}

static bool ask_other(const struct question *question, struct answers *ret_answers)
{
    int in[2], out[2], status = -1;

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        return false;
    (void)fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)execl("/proc/self/exe", "conformance", CONFORM_OTHER, (char *)NULL);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    const bool is_told =
        write(in[1], question, sizeof(*question)) == (ssize_t)sizeof(*question) &&
        read(out[0], ret_answers, sizeof(*ret_answers)) == (ssize_t)sizeof(*ret_answers);
    (void)close(in[1]);
    (void)close(out[0]);
    return waitpid(pid, &status, 0) == pid && status == 0 && is_told;
}

static void check_other(const struct question *question)
{
    struct answers got;

    memset(&got, 0xff, sizeof(got));
    conform_holds(ask_other(question, &got), "another process answers");
    conform_status(got.wrong_flags, CUDA_ERROR_INVALID_VALUE,
                   "opening memory without its flag is an invalid value");
    conform_status(got.open, CUDA_SUCCESS, "another process opens memory");
    conform_status(got.open_again, CUDA_SUCCESS, "and once more");
    conform_holds(got.is_same_address, "at the same address");
    conform_status(got.read, CUDA_SUCCESS, "it reads there");
    conform_number(got.byte, 0x5b, "what we have written");
    conform_status(got.close, CUDA_SUCCESS, "it closes it");
    conform_status(got.close_last, CUDA_SUCCESS, "as often as it has opened it");
    conform_status(got.close_more, CUDA_ERROR_INVALID_VALUE, "but not more often");
    conform_status(got.event_open, CUDA_SUCCESS, "another process opens an event");
    conform_status(got.event_wait, CUDA_SUCCESS, "a stream there waits for it");
    conform_status(got.event_query, CUDA_SUCCESS, "the event has passed");
    conform_status(got.event_destroy, CUDA_SUCCESS, "and is destroyed there");
}

static void check_arguments(CUdeviceptr address)
{
    CUipcEventHandle event_handle;
    CUipcMemHandle handle;
    CUdeviceptr opened = 0;
    CUevent event = NULL;

    conform_status(DRV(cuIpcGetMemHandle)(&handle, address), CUDA_SUCCESS, "cuIpcGetMemHandle");
    conform_status(DRV(cuIpcOpenMemHandle_v2)(&opened, handle, 1), CUDA_ERROR_INVALID_CONTEXT,
                   "opening a handle in the process that made it is an invalid context");
    conform_status(DRV(cuIpcGetMemHandle)(&handle, 4096), CUDA_ERROR_INVALID_VALUE,
                   "a handle of no allocation is an invalid value");
    conform_status(DRV(cuIpcCloseMemHandle)(address), CUDA_ERROR_INVALID_VALUE,
                   "closing what was not opened is an invalid value");
    conform_status(DRV(cuEventCreate)(&event, CU_EVENT_INTERPROCESS), CUDA_ERROR_INVALID_VALUE,
                   "an interprocess event that takes the time is an invalid value");
    conform_status(DRV(cuEventCreate)(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS,
                   "cuEventCreate");
    conform_status(DRV(cuIpcGetEventHandle)(&event_handle, event), CUDA_ERROR_INVALID_HANDLE,
                   "a handle of an event that is not interprocess is an invalid handle");
    conform_status(DRV(cuEventDestroy_v2)(event), CUDA_SUCCESS, "cuEventDestroy");
}

static void check_pool(void)
{
    const CUmemPoolProps properties = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                        .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                        .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
    CUmemLocation location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 };
    CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    CUmemPoolPtrExportData data;
    CUmemoryPool pool = NULL, standard = NULL;
    CUdeviceptr address = 0;
    int fd = -1;

    conform_status(DRV(cuMemPoolCreate)(&pool, &properties), CUDA_SUCCESS,
                   "cuMemPoolCreate of a pool that can be shared");
    conform_status(DRV(cuDeviceGetDefaultMemPool)(&standard, 0), CUDA_SUCCESS,
                   "cuDeviceGetDefaultMemPool");
    conform_status(DRV(cuMemPoolExportToShareableHandle)(
                       &fd, standard, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                   CUDA_ERROR_INVALID_VALUE, "exporting the default pool is an invalid value");
    conform_status(DRV(cuMemPoolExportToShareableHandle)(
                       &fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 1),
                   CUDA_ERROR_INVALID_VALUE, "exporting a pool with flags is an invalid value");
    conform_status(DRV(cuMemPoolExportToShareableHandle)(
                       &fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                   CUDA_SUCCESS, "cuMemPoolExportToShareableHandle");
    conform_status(DRV(cuMemAllocFromPoolAsync)(&address, MIB, pool, NULL), CUDA_SUCCESS,
                   "cuMemAllocFromPoolAsync");
    conform_status(DRV(cuMemPoolExportPointer)(&data, address), CUDA_SUCCESS,
                   "cuMemPoolExportPointer");
    conform_status(DRV(cuMemPoolGetAccess)(&flags, pool, &location), CUDA_SUCCESS,
                   "cuMemPoolGetAccess");
    conform_number(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "a gpu reaches its own pool");
    conform_status(DRV(cuMemFreeAsync)(address, NULL), CUDA_SUCCESS, "cuMemFreeAsync");
    conform_status(DRV(cuStreamSynchronize)(NULL), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_status(DRV(cuMemPoolDestroy)(pool), CUDA_SUCCESS, "cuMemPoolDestroy");
    conform_number(close(fd) < 0, 0, "the descriptor is the program's");
}

void conform_ipc(void)
{
    struct question question;
    CUdeviceptr address = 0;
    CUevent event = NULL;

    conform_status(DRV(cuMemAlloc_v2)(&address, 4 * MIB), CUDA_SUCCESS, "cuMemAlloc");
    check_arguments(address);
    conform_status(DRV(cuMemsetD8_v2)(address, 0x5b, 4 * MIB), CUDA_SUCCESS, "cuMemsetD8");
    conform_status(DRV(cuEventCreate)(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING),
                   CUDA_SUCCESS, "cuEventCreate for other processes");
    conform_status(DRV(cuEventRecord)(event, NULL), CUDA_SUCCESS, "cuEventRecord");
    conform_status(DRV(cuCtxSynchronize)(), CUDA_SUCCESS, "cuCtxSynchronize");
    conform_status(DRV(cuIpcGetMemHandle)(&question.memory, address), CUDA_SUCCESS,
                   "cuIpcGetMemHandle once more");
    conform_status(DRV(cuIpcGetEventHandle)(&question.event, event), CUDA_SUCCESS,
                   "cuIpcGetEventHandle");
    check_other(&question);
    conform_status(DRV(cuEventDestroy_v2)(event), CUDA_SUCCESS, "cuEventDestroy");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree");
    check_pool();
}
