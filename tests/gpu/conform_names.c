/* SPDX-License-Identifier: Apache-2.0 */

/* cuGetProcAddress: names by the version that they came with, and what it says of others. */

#include <stdio.h>

#include "conform.h"

/* Among them those that the CUDA runtime library asks for under two versions. */
static const struct {
    const char *name;
    int version;
    uint64_t flags;
    const char *exported;
} names[] = {
    { "cuMemAlloc", 3020, 0, "cuMemAlloc_v2" },
    { "cuMemAlloc", 12000, 0, "cuMemAlloc_v2" },
    { "cuMemGetInfo", 3020, 0, "cuMemGetInfo_v2" },
    { "cuMemAllocPitch", 3020, 0, "cuMemAllocPitch_v2" },
    { "cuDevicePrimaryCtxRelease", 7000, 0, "cuDevicePrimaryCtxRelease" },
    { "cuDevicePrimaryCtxRelease", 11000, 0, "cuDevicePrimaryCtxRelease_v2" },
    { "cuDevicePrimaryCtxReset", 7000, 0, "cuDevicePrimaryCtxReset" },
    { "cuDevicePrimaryCtxReset", 11000, 0, "cuDevicePrimaryCtxReset_v2" },
    { "cuCtxCreate", 3020, 0, "cuCtxCreate_v2" },
    { "cuCtxCreate", 11040, 0, "cuCtxCreate_v3" },
    { "cuStreamDestroy", 2000, 0, "cuStreamDestroy" },
    { "cuStreamDestroy", 4000, 0, "cuStreamDestroy_v2" },
    { "cuEventDestroy", 4000, 0, "cuEventDestroy_v2" },
    { "cuGetProcAddress", 11030, 0, "cuGetProcAddress" },
    { "cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2" },
    { "cuMemcpyAsync", 7000, 0, "cuMemcpyAsync" },
    { "cuMemcpyAsync", 7000, 2, "cuMemcpyAsync_ptsz" },
    { "cuMemcpyAsync", 4000, 1, "cuMemcpyAsync" },
    { "cuMemcpyHtoD", 7000, 2, "cuMemcpyHtoD_v2_ptds" },
    { "cuMemAllocAsync", 11020, 2, "cuMemAllocAsync_ptsz" },
    { "cuMemAllocAsync", 11020, 1, "cuMemAllocAsync" },
    { "cuMemAlloc", 7000, 2, "cuMemAlloc_v2" },
    { "cuLaunchKernel", 7000, 2, "cuLaunchKernel_ptsz" },
    { "cuMemcpy2D", 3020, 0, "cuMemcpy2D_v2" },
    { "cuMemcpy3DAsync", 7000, 2, "cuMemcpy3DAsync_v2_ptsz" },
    { "cuLibraryLoadData", 12000, 0, "cuLibraryLoadData" },
    { "cuModuleGetGlobal", 3020, 0, "cuModuleGetGlobal_v2" },
};

static void check_one(size_t i)
{
    CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    char what[160];
    void *found = NULL;

    (void)snprintf(what, sizeof(what), "%s of %d, flags %d, is %s", names[i].name, names[i].version,
                   (int)names[i].flags, names[i].exported);
    const CUresult result =
        DRV(cuGetProcAddress_v2)(names[i].name, &found, names[i].version, names[i].flags, &status);
    conform_holds(result == CUDA_SUCCESS && status == CU_GET_PROC_ADDRESS_SUCCESS &&
                      found == conform_symbol(names[i].exported),
                  what);
}

void conform_names(void)
{
    CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
    void *found = &status;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        check_one(i);
    conform_status(DRV(cuGetProcAddress_v2)("cuNothing", &found, 12000, 0, &status), CUDA_SUCCESS,
                   "an unknown name is no error");
    conform_number(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, "but not found");
    conform_holds(found == NULL, "and no address");
    found = &status;
    conform_status(DRV(cuGetProcAddress_v2)("cuMemAllocAsync", &found, 11010, 0, &status),
                   CUDA_SUCCESS, "a name that is younger than the version is no error");
    conform_number(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT, "but another status");
    conform_holds(found == NULL, "and no address");
    conform_status(DRV(cuGetProcAddress_v2)("cuInit", &found, 99000, 0, &status),
                   CUDA_ERROR_INVALID_VALUE, "a version beyond the driver's is an invalid value");
    conform_status(DRV(cuGetProcAddress_v2)("cuInit", &found, 12000, 0, NULL), CUDA_SUCCESS,
                   "the status is not needed");
    conform_holds(found != NULL, "for what is found");
}
