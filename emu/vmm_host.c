/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cuMemCreate on the host. The bytes are a memfd of their own, which costs no card anything. They
 * are mapped once for the copies of cards, and at the device's addresses as far as access for the
 * host was set; without it a host that goes there faults, as with the real driver. The memfd is
 * also what is exported.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm.h"

#define FILE_NAME "brim-emulated-host"

/* Takes the descriptor over. */
static bool map_file(int fd, uint64_t bytes, struct memory *memory)
{
    void *const mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (mapped == MAP_FAILED) {
        (void)close(fd);
        return false;
    }
    (void)madvise(mapped, bytes, MADV_DONTFORK);
    memory->host = mapped;
    memory->host_fd = fd;
    memory->bytes = bytes;
    return true;
}

CUresult vmm_host_create(uint64_t bytes, const CUmemAllocationProp *properties,
                         struct memory **ret_memory)
{
    struct memory memory = { .properties = *properties };
    const int saved_errno = errno;
    const int fd = memfd_create(FILE_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool is_made = false;

    /* Sealed, so that no program can cut the file short under another one. */
    if (fd >= 0 && (ftruncate(fd, (off_t)bytes) < 0 ||
                    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0))
        (void)close(fd);
    else if (fd >= 0)
        is_made = map_file(fd, bytes, &memory);
    errno = saved_errno;
    return is_made ? vmm_memory_new(&memory, ret_memory) : CUDA_ERROR_OUT_OF_MEMORY;
}

/* A file that came from vmm_host_create, here or elsewhere: by its name, which the kernel tells. */
static bool is_ours(int fd)
{
    static const char wanted[] = "/memfd:" FILE_NAME " (deleted)";
    char path[32], name[64];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(path, name, sizeof(name));
    return length == (ssize_t)sizeof(wanted) - 1 && memcmp(name, wanted, sizeof(wanted) - 1) == 0;
}

bool vmm_host_import(int fd, struct memory *memory)
{
    const int saved_errno = errno;
    struct stat file = { 0 };
    bool is_mapped = false;

    if (is_ours(fd) && fstat(fd, &file) == 0 && file.st_size > 0) {
        const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        is_mapped = own >= 0 && map_file(own, (uint64_t)file.st_size, memory);
    }
    memory->properties =
        (CUmemAllocationProp){ .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                               .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                               .location = { CU_MEM_LOCATION_TYPE_HOST_NUMA, 0 } };
    errno = saved_errno;
    return is_mapped;
}

CUresult vmm_host_export(const struct memory *memory, int *ret_fd)
{
    const int saved_errno = errno;
    const int fd = fcntl(memory->host_fd, F_DUPFD_CLOEXEC, 0);

    errno = saved_errno;
    if (fd < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    *ret_fd = fd;
    return CUDA_SUCCESS;
}

void vmm_host_free(struct memory *memory)
{
    const int saved_errno = errno;

    (void)munmap(memory->host, memory->bytes);
    (void)close(memory->host_fd);
    errno = saved_errno;
    memory->host = NULL;
}

CUresult vmm_host_set_access(struct mapping *mapping, CUmemAccess_flags flags)
{
    const int saved_errno = errno;
    const bool is_open = flags != CU_MEM_ACCESS_FLAGS_PROT_NONE;
    const int protection = !is_open                                 ? PROT_NONE
                           : flags == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ
                                                                    : PROT_READ | PROT_WRITE;
    void *const there = (void *)(uintptr_t)mapping->range.base; /* NOLINT: addresses of ours */
    const void *const mapped =
        mmap(there, mapping->range.bytes, protection,
             MAP_FIXED | (is_open ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE),
             is_open ? mapping->memory->host_fd : -1, 0);

    if (is_open && mapped != MAP_FAILED)
        (void)madvise(there, mapping->range.bytes, MADV_DONTFORK);
    errno = saved_errno;
    if (mapped == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    mapping->host_access = (unsigned char)flags;
    return CUDA_SUCCESS;
}
