/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pools between processes, and which cards reach them. The descriptor of a pool says which pool it
 * is and keeps nothing alive; pieces are referred to one by one.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "cuda/ipc.h"
#include "ipc.h"
#include "pool.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

_Static_assert(sizeof(struct ipc_place) == sizeof(CUmemPoolPtrExportData), "a place fills it");

static int write_pool(const struct ipc_place *place)
{
    const int fd = memfd_create("brim-emulated-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd >= 0 && (pwrite(fd, place, sizeof(*place), 0) != sizeof(*place) ||
                    fcntl(fd, F_ADD_SEALS, SEALS) < 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

CUresult cuMemPoolExportToShareableHandle(void *shareable, CUmemoryPool pool,
                                          CUmemAllocationHandleType type, unsigned long long flags)
{
    const CUresult status = cuda_enter();
    const int saved_errno = errno;

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = handle_get(&cuda.pools, pool);
    if (!shareable || !found || !found->is_shareable || flags != 0 ||
        type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (found->number == 0 && getrandom(&found->number, sizeof(found->number), 0) < 0)
        return cuda_leave(CUDA_ERROR_OPERATING_SYSTEM);
    const struct ipc_place place = { .kind = IPC_POOL,
                                     .emulator = cuda.emulator,
                                     .gpu = cuda.gpus[found->gpu].server_index,
                                     .pid = (uint32_t)getpid(),
                                     .owner = found->number };
    const int fd = write_pool(&place);
    errno = saved_errno;
    if (fd < 0)
        return cuda_leave(CUDA_ERROR_OPERATING_SYSTEM);
    memcpy(shareable, &fd, sizeof(fd));
    return cuda_leave(CUDA_SUCCESS);
}

/* The descriptor stays the program's. */
static bool read_pool(int fd, struct ipc_place *ret_place)
{
    const int saved_errno = errno;
    const bool is_pool = (fcntl(fd, F_GET_SEALS) & SEALS) == SEALS &&
                         pread(fd, ret_place, sizeof(*ret_place), 0) == sizeof(*ret_place);

    errno = saved_errno;
    return is_pool && ret_place->kind == IPC_POOL && ret_place->emulator == cuda.emulator &&
           ret_place->owner != 0;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *shareable,
                                            CUmemAllocationHandleType type,
                                            unsigned long long flags)
{
    const CUresult status = cuda_enter();
    const intptr_t fd = (intptr_t)shareable;
    struct ipc_place place;

    if (status != CUDA_SUCCESS)
        return status;
    if (!pool || fd < 0 || fd > INT32_MAX || flags != 0 ||
        type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !read_pool((int)fd, &place))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (!device_of_server(place.gpu))
        return cuda_leave(CUDA_ERROR_NOT_SUPPORTED);
    const struct pool *const made = pool_import(&place);
    if (!made)
        return cuda_leave(cuda_count_oom(device_of_server(place.gpu)));
    *pool = made->handle;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData *data, CUdeviceptr address)
{
    struct ipc_place place = { 0 };
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct piece *const piece = pool_piece(address);
    if (!data || !piece || piece->chunk->pool->number == 0 || piece->chunk->pool->is_imported)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = pool_export_piece(piece, &place);
    if (status == CUDA_SUCCESS)
        memcpy(data, &place, sizeof(place));
    return cuda_leave(status);
}

CUresult cuMemPoolImportPointer(CUdeviceptr *address, CUmemoryPool pool,
                                CUmemPoolPtrExportData *data)
{
    struct ipc_place place;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = handle_get(&cuda.pools, pool);
    if (!address || !data || !found || !found->is_imported)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    memcpy(&place, data, sizeof(place));
    if (place.kind != IPC_PIECE || place.emulator != cuda.emulator ||
        place.owner != found->number || place.gpu != cuda.gpus[found->gpu].server_index)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = pool_import_piece(found, &place, address);
    return cuda_leave(status);
}

/* A card always reaches its own pools and, without peer access, no others. */
static bool is_possible(const struct pool *pool, const CUmemAccessDesc *access)
{
    if (access->location.type != CU_MEM_LOCATION_TYPE_DEVICE || !device_get(access->location.id))
        return false;
    return access->flags == (pool->gpu == (uint32_t)access->location.id
                                 ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                 : CU_MEM_ACCESS_FLAGS_PROT_NONE);
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *accesses, size_t count)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct pool *const found = handle_get(&cuda.pools, pool);
    if (!found || !accesses || count == 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    for (size_t i = 0; i < count; i++) {
        if (!is_possible(found, &accesses[i]))
            return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    }
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool pool, CUmemLocation *location)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct pool *const found = handle_get(&cuda.pools, pool);
    if (!flags || !found || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE ||
        !device_get(location->id))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *flags = found->gpu == (uint32_t)location->id ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                                  : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return cuda_leave(CUDA_SUCCESS);
}
