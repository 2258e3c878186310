/* SPDX-License-Identifier: Apache-2.0 */

/* Devices and how they are named, errors and their names, and memory of the host that the driver
 * knows. */

#include <stdlib.h>
#include <string.h>

#include "conform.h"

static void check_devices(void)
{
    CUdevice device = 77;
    CUuuid uuid = { "" };
    char bus_id[32] = "", name[128] = "";
    size_t bytes = 0, free_bytes = 0, total_bytes = 0;
    int count = 0, value = 0;

    conform_status(DRV(cuInit)(1), CUDA_ERROR_INVALID_VALUE,
                   "cuInit with flags is an invalid value");
    conform_status(DRV(cuDeviceGetCount)(&count), CUDA_SUCCESS, "cuDeviceGetCount");
    conform_status(DRV(cuDeviceGet)(&device, count), CUDA_ERROR_INVALID_DEVICE,
                   "cuDeviceGet beyond the count is an invalid device");
    conform_status(DRV(cuDeviceGet)(&device, -1), CUDA_ERROR_INVALID_DEVICE,
                   "cuDeviceGet of a negative number is an invalid device");
    conform_status(DRV(cuDeviceGetName)(name, sizeof(name), 0), CUDA_SUCCESS, "cuDeviceGetName");
    conform_holds(strlen(name) > 0, "a device has a name");
    conform_status(DRV(cuDeviceGetName)(name, 5, 0), CUDA_SUCCESS, "cuDeviceGetName in 5 bytes");
    conform_holds(memchr(name, '\0', 5) != NULL, "a name that is cut ends all the same");
    conform_status(DRV(cuDeviceGetUuid_v2)(&uuid, count), CUDA_ERROR_INVALID_DEVICE,
                   "cuDeviceGetUuid beyond the count is an invalid device");
    conform_status(DRV(cuDeviceGetPCIBusId)(bus_id, sizeof(bus_id), 0), CUDA_SUCCESS,
                   "cuDeviceGetPCIBusId");
    conform_status(DRV(cuDeviceGetByPCIBusId)(&device, bus_id), CUDA_SUCCESS,
                   "cuDeviceGetByPCIBusId");
    conform_number((uint64_t)device, 0, "it is the device again");
    conform_status(DRV(cuDeviceTotalMem_v2)(&bytes, 0), CUDA_SUCCESS, "cuDeviceTotalMem");
    conform_status(DRV(cuMemGetInfo_v2)(&free_bytes, &total_bytes), CUDA_SUCCESS, "cuMemGetInfo");
    conform_number(total_bytes, bytes, "both tell the same total");
    conform_holds(free_bytes <= total_bytes, "no more is free than there is");
    conform_status(DRV(cuDeviceGetAttribute)(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0),
                   CUDA_SUCCESS, "cuDeviceGetAttribute");
    conform_number((uint64_t)value, 32, "a warp has 32 threads");
    conform_status(DRV(cuDeviceGetAttribute)(&value, (CUdevice_attribute)99999, 0),
                   CUDA_ERROR_INVALID_VALUE, "an unknown attribute is an invalid value");
    conform_status(DRV(cuDeviceGetAttribute)(NULL, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0),
                   CUDA_ERROR_INVALID_VALUE, "an attribute to nowhere is an invalid value");
}

static void check_errors(void)
{
    static const struct {
        int code;
        const char *name;
    } some[] = { { 36, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER" },
                 { 214, "CUDA_ERROR_ECC_UNCORRECTABLE" },
                 { 304, "CUDA_ERROR_OPERATING_SYSTEM" },
                 { 401, "CUDA_ERROR_ILLEGAL_STATE" },
                 { 710, "CUDA_ERROR_ASSERT" },
                 { 807, "CUDA_ERROR_MPS_SERVER_NOT_READY" },
                 { 900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" } };
    const char *text = "";
    int version = 0;

    conform_status(DRV(cuDriverGetVersion)(&version), CUDA_SUCCESS, "cuDriverGetVersion");
    conform_holds(version >= 11000, "the driver's version");
    conform_status(DRV(cuDriverGetVersion)(NULL), CUDA_ERROR_INVALID_VALUE,
                   "the version to nowhere is an invalid value");
    conform_status(DRV(cuGetErrorName)(CUDA_ERROR_OUT_OF_MEMORY, &text), CUDA_SUCCESS,
                   "cuGetErrorName");
    conform_holds(text && strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY") == 0, "an error's name");
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        conform_holds(DRV(cuGetErrorName)((CUresult)some[i].code, &text) == CUDA_SUCCESS && text &&
                          strcmp(text, some[i].name) == 0,
                      some[i].name);
    conform_status(DRV(cuGetErrorName)((CUresult)54321, &text), CUDA_ERROR_INVALID_VALUE,
                   "the name of no error is an invalid value");
    conform_holds(text == NULL, "and none");
}

static void check_pinned(void)
{
    CUdeviceptr address = 0;
    unsigned int flags = 77;
    void *memory = NULL;

    conform_status(DRV(cuMemHostAlloc)(&memory, 4096, 0x80), CUDA_ERROR_INVALID_VALUE,
                   "cuMemHostAlloc with unknown flags is an invalid value");
    conform_status(DRV(cuMemHostAlloc)(&memory, 4096, 3), CUDA_SUCCESS,
                   "cuMemHostAlloc, portable and mapped");
    conform_status(DRV(cuMemHostGetFlags)(&flags, memory), CUDA_SUCCESS, "cuMemHostGetFlags");
    conform_number(flags & 3, 3, "the flags that it was made with");
    conform_status(DRV(cuMemHostGetDevicePointer_v2)(&address, memory, 1), CUDA_ERROR_INVALID_VALUE,
                   "a device's address of it with flags is an invalid value");
    conform_status(DRV(cuMemHostGetDevicePointer_v2)(&address, memory, 0), CUDA_SUCCESS,
                   "cuMemHostGetDevicePointer");
    conform_number(address, (CUdeviceptr)(uintptr_t)memory, "it is the same for the device");
    conform_status(DRV(cuMemFreeHost)(memory), CUDA_SUCCESS, "cuMemFreeHost");
}

static void check_registered(void)
{
    void *memory = NULL;

    if (posix_memalign(&memory, 4096, 8192) != 0)
        return;
    conform_status(DRV(cuMemHostUnregister)(memory), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
                   "unregistering what was not registered is told apart");
    conform_status(DRV(cuMemHostRegister_v2)(memory, 0, 0), CUDA_ERROR_INVALID_VALUE,
                   "registering nothing is an invalid value");
    conform_status(DRV(cuMemHostRegister_v2)(memory, 8192, 0), CUDA_SUCCESS, "cuMemHostRegister");
    conform_status(DRV(cuMemHostRegister_v2)(memory, 8192, 0),
                   CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "registering twice is told apart");
    conform_status(DRV(cuMemHostUnregister)(memory), CUDA_SUCCESS, "cuMemHostUnregister");
    free(memory);
}

void conform_device(void)
{
    check_devices();
    check_errors();
    check_pinned();
    check_registered();
}
