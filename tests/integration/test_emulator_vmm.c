/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that several processes refer to, and the books of it over random steps. */

#include <poll.h>

#include "cuda/nvml.h"
#include "cuda/vmm.h"
#include "emulated_cuda.h"

#define MIB       ((uint64_t)1 << 20)
#define PAGE      (2 * MIB)
#define PASSED_FD 9 /* where a child finds the descriptor that it was given */

static const CUmemAllocationProp exportable = {
    .type = CU_MEM_ALLOCATION_TYPE_PINNED,
    .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
    .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
};
static const CUmemAccessDesc read_write = { { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
                                            CU_MEM_ACCESS_FLAGS_PROT_READWRITE };

static CUdeviceptr map(CUmemGenericAllocationHandle handle, uint64_t bytes)
{
    CUdeviceptr address = 0;

    CHECK_CU(CU(cuMemAddressReserve)(&address, bytes, 0, 0, 0));
    CHECK_CU(CU(cuMemMap)(address, bytes, 0, handle, 0));
    CHECK_CU(CU(cuMemSetAccess)(address, bytes, &read_write, 1));
    return address;
}

static CUmemGenericAllocationHandle create(uint64_t bytes)
{
    CUmemGenericAllocationHandle handle = 0;

    CHECK_CU(CU(cuMemCreate)(&handle, bytes, &exportable, 0));
    return handle;
}

static int export(CUmemGenericAllocationHandle handle)
{
    int fd = -1;

    CHECK_CU(
        CU(cuMemExportToShareableHandle)(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    return fd;
}

static CUresult import(int fd, CUmemGenericAllocationHandle *ret_handle)
{
    return CU(cuMemImportFromShareableHandle)(ret_handle,
                                              (void *)(uintptr_t)(unsigned)fd, /* NOLINT */
                                              CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
}

/* What the card has in use when it is this much; waits for ends that the kernel tells. */
static void wait_used(uint64_t bytes)
{
    while (EMULATED_CARD_BYTES - emulated_free_bytes() != bytes)
        (void)poll(NULL, 0, 1);
}

/* ---- parts that run as processes of their own ---- */

/* Imports, maps, closes the descriptor, answers the parent's bytes, stays. */
static void part_import(void)
{
    CUmemGenericAllocationHandle handle = 0;
    unsigned char bytes[64];

    (void)emulated_context();
    CHECK_CU(import(PASSED_FD, &handle));
    CHECK(close(PASSED_FD) == 0);
    const CUdeviceptr address = map(handle, 100 * MIB);
    CHECK_CU(CU(cuMemRelease)(handle));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(bytes, address + 99 * MIB, sizeof(bytes)));
    for (size_t i = 0; i < sizeof(bytes); i++)
        CHECK(bytes[i] == 0x77);
    CHECK_CU(CU(cuMemsetD8_v2)(address, 0x33, 64));
    emulated_say_and_wait('i');
    CHECK_CU(CU(cuMemcpyDtoH_v2)(bytes, address + 99 * MIB, sizeof(bytes)));
    CHECK(bytes[0] == 0x77);
    exit(0);
}

/* Only holds the descriptor; knows no driver. */
static void part_keep(void)
{
    emulated_say_and_wait('k');
    exit(0);
}

static struct emulated_child spawn_with(const char *part, int fd)
{
    CHECK(dup2(fd, PASSED_FD) == PASSED_FD);
    const struct emulated_child child = emulated_spawn(part);
    CHECK(close(PASSED_FD) == 0);
    return child;
}

static uint64_t nvml_bytes_of(pid_t pid)
{
    void *const library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    nvmlProcessInfo_t list[16];
    unsigned int count = 16;
    nvmlDevice_t device = NULL;

    CHECK(library);
    const __typeof__(&nvmlInit_v2) init = (__typeof__(init))dlsym(library, "nvmlInit_v2");
    const __typeof__(&nvmlDeviceGetHandleByIndex_v2) get =
        (__typeof__(get))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    const __typeof__(&nvmlDeviceGetComputeRunningProcesses_v3) ask =
        (__typeof__(ask))dlsym(library, "nvmlDeviceGetComputeRunningProcesses_v3");
    CHECK(init() == NVML_SUCCESS && get(0, &device) == NVML_SUCCESS);
    CHECK(ask(device, &count, list) == NVML_SUCCESS);
    for (unsigned int i = 0; i < count; i++) {
        if (list[i].pid == (unsigned int)pid)
            return list[i].usedGpuMemory;
    }
    return 0;
}

/* ---- tests ---- */

static void test_a_reference_outlives_its_exporter(void)
{
    unsigned char bytes[64];

    (void)emulated_context();
    const CUmemGenericAllocationHandle handle = create(100 * MIB);
    const CUdeviceptr address = map(handle, 100 * MIB);
    CHECK_CU(CU(cuMemsetD8_v2)(address, 0x77, 100 * MIB));
    int fd = export(handle);
    struct emulated_child importer = spawn_with("import", fd);
    CHECK(emulated_hear(&importer) == 'i');
    CHECK_CU(CU(cuMemcpyDtoH_v2)(bytes, address, sizeof(bytes)));
    CHECK(bytes[0] == 0x33 && bytes[63] == 0x33);
    /* Paid once, by who made it. */
    wait_used(2 * EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK_EQ_U64(nvml_bytes_of(getpid()), EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK_EQ_U64(nvml_bytes_of(importer.pid), EMULATED_CONTEXT_BYTES);

    CHECK_CU(CU(cuMemUnmap)(address, 100 * MIB));
    CHECK_CU(CU(cuMemRelease)(handle));
    CHECK(close(fd) == 0);
    CHECK_EQ_U64(emulated_stats().used_bytes, 2 * EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK_EQ_U64(nvml_bytes_of(getpid()), EMULATED_CONTEXT_BYTES);
    CHECK_EQ_U64(nvml_bytes_of(importer.pid), EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK(emulated_end(&importer, 0) == 0); /* it has read the bytes once more */
    wait_used(EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuMemAddressFree)(address, 100 * MIB));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_killed_importers_references_go_with_it(void)
{
    (void)emulated_context();
    const CUmemGenericAllocationHandle handle = create(100 * MIB);
    const CUdeviceptr address = map(handle, 100 * MIB);
    CHECK_CU(CU(cuMemsetD8_v2)(address, 0x77, 100 * MIB));
    int fd = export(handle);
    struct emulated_child importer = spawn_with("import", fd);
    CHECK(emulated_hear(&importer) == 'i');
    CHECK(close(fd) == 0);
    CHECK_CU(CU(cuMemUnmap)(address, 100 * MIB));
    CHECK_CU(CU(cuMemRelease)(handle));
    wait_used(2 * EMULATED_CONTEXT_BYTES + 100 * MIB);
    (void)emulated_end(&importer, SIGKILL);
    wait_used(EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuMemAddressFree)(address, 100 * MIB));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_descriptor_in_any_process_keeps_the_memory(void)
{
    CUmemGenericAllocationHandle handle = 0;
    int ends[2];

    (void)emulated_context();
    handle = create(PAGE);
    int fd = export(handle);
    struct emulated_child keeper = spawn_with("keep", fd);
    CHECK(emulated_hear(&keeper) == 'k');
    CHECK_CU(CU(cuMemRelease)(handle));
    CHECK(close(fd) == 0);
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES + PAGE);
    (void)emulated_end(&keeper, SIGKILL);
    wait_used(EMULATED_CONTEXT_BYTES);

    CHECK(pipe2(ends, O_CLOEXEC) == 0); /* a pipe, but none that stands for memory */
    CHECK_CU_IS(import(ends[1], &handle), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(import(4000, &handle), CUDA_ERROR_INVALID_VALUE);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_memory_belongs_to_no_context(void)
{
    (void)emulated_context();
    const CUmemGenericAllocationHandle handle = create(PAGE);
    const CUdeviceptr address = map(handle, PAGE);
    unsigned char byte = 0;

    CHECK_CU(CU(cuMemsetD8_v2)(address, 0x44, PAGE));
    CHECK_CU(CU(cuDevicePrimaryCtxReset_v2)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, PAGE);
    (void)emulated_context();
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, address + 5, 1));
    CHECK(byte == 0x44);
    CHECK_CU(CU(cuMemUnmap)(address, PAGE));
    CHECK_CU(CU(cuMemRelease)(handle));
    CHECK_CU_IS(CU(cuMemRelease)(handle), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuMemAddressFree)(address, PAGE));
    while (CU(cuDevicePrimaryCtxRelease_v2)(0) == CUDA_SUCCESS) /* a reset releases nothing */
        continue;
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
}

static void test_freed_memory_is_wiped_before_it_is_given_out_again(void)
{
    (void)emulated_context();
    for (int i = 0; i < 40; i++) {
        const CUmemGenericAllocationHandle handle = create(PAGE);
        const CUdeviceptr address = map(handle, PAGE);
        unsigned char byte = 9;
        CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, address + 4097, 1));
        CHECK(byte == 0);
        CHECK_CU(CU(cuMemsetD8_v2)(address, 0x66, PAGE));
        CHECK_CU(CU(cuMemRelease)(handle));
        CHECK_CU(CU(cuMemUnmap)(address, PAGE));
        CHECK_CU(CU(cuMemAddressFree)(address, PAGE));
    }
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

/* A model of one process's handles and mappings: memory is used while either is there. */
#define MEMORIES 12
#define SLOTS    24
struct model {
    CUmemGenericAllocationHandle handles[MEMORIES];
    uint64_t bytes[MEMORIES];
    unsigned handle_count[MEMORIES], mapping_count[MEMORIES];
    int slots[SLOTS]; /* which memory is mapped there; -1: none */
};

static uint64_t model_used(const struct model *model)
{
    uint64_t used = EMULATED_CONTEXT_BYTES;

    for (int i = 0; i < MEMORIES; i++)
        used += model->handle_count[i] + model->mapping_count[i] > 0 ? model->bytes[i] : 0;
    return used;
}

static CUdeviceptr slot_address(CUdeviceptr base, int slot)
{
    return base + (uint64_t)slot * 4 * PAGE;
}

static void model_step(struct model *model, CUdeviceptr base, uint64_t random)
{
    const int i = (int)((random >> 8) % MEMORIES), slot = (int)((random >> 16) % SLOTS);
    const CUdeviceptr address = slot_address(base, slot);
    const int mapped = model->slots[slot];

    if (random % 4 == 0 && model->handle_count[i] + model->mapping_count[i] == 0) {
        model->bytes[i] = (1 + random % 3) * PAGE;
        model->handles[i] = create(model->bytes[i]);
        model->handle_count[i] = 1;
    } else if (random % 4 == 1 && model->handle_count[i] > 0) {
        CHECK_CU(CU(cuMemRelease)(model->handles[i]));
        model->handle_count[i]--;
    } else if (random % 4 == 2 && mapped < 0 && model->handle_count[i] > 0) {
        CHECK_CU(CU(cuMemMap)(address, model->bytes[i], 0, model->handles[i], 0));
        model->slots[slot] = i;
        model->mapping_count[i]++;
    } else if (random % 4 == 3 && mapped >= 0) {
        CUmemGenericAllocationHandle same = 0;
        CHECK_CU(CU(cuMemRetainAllocationHandle)(&same, (void *)(uintptr_t)address)); /* NOLINT */
        CHECK_EQ_U64(same, model->handles[mapped]);
        CHECK_CU(CU(cuMemUnmap)(address, model->bytes[mapped]));
        model->handle_count[mapped]++;
        model->mapping_count[mapped]--;
        model->slots[slot] = -1;
    }
}

static void test_used_bytes_are_those_of_the_references_over_random_steps(void)
{
    struct model model = { 0 };
    uint64_t seed = 20240611;
    CUdeviceptr base = 0;

    (void)emulated_context();
    CHECK_CU(CU(cuMemAddressReserve)(&base, (uint64_t)SLOTS * 4 * PAGE, 0, 0, 0));
    for (int i = 0; i < SLOTS; i++)
        model.slots[i] = -1;
    for (int step = 0; step < 4000; step++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        model_step(&model, base, seed);
        CHECK_EQ_U64(EMULATED_CARD_BYTES - emulated_free_bytes(), model_used(&model));
    }
    for (int i = 0; i < SLOTS; i++) {
        if (model.slots[i] >= 0)
            CHECK_CU(CU(cuMemUnmap)(slot_address(base, i), model.bytes[model.slots[i]]));
    }
    for (int i = 0; i < MEMORIES; i++) {
        for (; model.handle_count[i] > 0; model.handle_count[i]--)
            CHECK_CU(CU(cuMemRelease)(model.handles[i]));
    }
    CHECK_CU(CU(cuMemAddressFree)(base, (uint64_t)SLOTS * 4 * PAGE));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(test_a_reference_outlives_its_exporter),
        TEST(test_a_killed_importers_references_go_with_it),
        TEST(test_a_descriptor_in_any_process_keeps_the_memory),
        TEST(test_memory_belongs_to_no_context),
        TEST(test_freed_memory_is_wiped_before_it_is_given_out_again),
        TEST(test_used_bytes_are_those_of_the_references_over_random_steps),
    };

    if (argc == 2 && strcmp(argv[1], "import") == 0)
        part_import();
    if (argc == 2 && strcmp(argv[1], "keep") == 0)
        part_keep();
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
