/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_REFUSED_H
#define CUDA_REFUSED_H

#include "cuda/cuda.h"

/*
 * What a driver of CUDA 13 has and an emulated card does not do: code on the card, textures and
 * surfaces, most of graphs, memory and semaphores of other interfaces, graphics. The runtime
 * library asks for all of it when it starts. Nobody here calls it and it is all answered alike, so
 * the arguments, which are NVIDIA's as the names are, stand nowhere.
 */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

/* The documented name, the version of CUDA that the form came with, the exported name. */
#define CUDA_REFUSED_MAP(X)                                                                        \
    X(cuArrayGetSparseProperties, 11010, cuArrayGetSparseProperties)                               \
    X(cuCtxFromGreenCtx, 12040, cuCtxFromGreenCtx)                                                 \
    X(cuCtxGetDevResource, 12040, cuCtxGetDevResource)                                             \
    X(cuCtxGetExecAffinity, 11040, cuCtxGetExecAffinity)                                           \
    X(cuCtxRecordEvent, 12050, cuCtxRecordEvent)                                                   \
    X(cuCtxWaitEvent, 12050, cuCtxWaitEvent)                                                       \
    X(cuDestroyExternalMemory, 10000, cuDestroyExternalMemory)                                     \
    X(cuDestroyExternalSemaphore, 10000, cuDestroyExternalSemaphore)                               \
    X(cuDevResourceGenerateDesc, 12040, cuDevResourceGenerateDesc)                                 \
    X(cuDevSmResourceSplitByCount, 12040, cuDevSmResourceSplitByCount)                             \
    X(cuDeviceGetDevResource, 12040, cuDeviceGetDevResource)                                       \
    X(cuDeviceGetExecAffinitySupport, 11040, cuDeviceGetExecAffinitySupport)                       \
    X(cuDeviceGetHostAtomicCapabilities, 13000, cuDeviceGetHostAtomicCapabilities)                 \
    X(cuDeviceGetLuid, 10000, cuDeviceGetLuid)                                                     \
    X(cuDeviceGetNvSciSyncAttributes, 10020, cuDeviceGetNvSciSyncAttributes)                       \
    X(cuDeviceGetP2PAtomicCapabilities, 13000, cuDeviceGetP2PAtomicCapabilities)                   \
    X(cuDeviceGetProperties, 2000, cuDeviceGetProperties)                                          \
    X(cuDeviceGetTexture1DLinearMaxWidth, 11010, cuDeviceGetTexture1DLinearMaxWidth)               \
    X(cuDeviceRegisterAsyncNotification, 12040, cuDeviceRegisterAsyncNotification)                 \
    X(cuDeviceUnregisterAsyncNotification, 12040, cuDeviceUnregisterAsyncNotification)             \
    X(cuEGLStreamConsumerAcquireFrame, 7000, cuEGLStreamConsumerAcquireFrame)                      \
    X(cuEGLStreamConsumerConnect, 7000, cuEGLStreamConsumerConnect)                                \
    X(cuEGLStreamConsumerConnectWithFlags, 8000, cuEGLStreamConsumerConnectWithFlags)              \
    X(cuEGLStreamConsumerDisconnect, 7000, cuEGLStreamConsumerDisconnect)                          \
    X(cuEGLStreamConsumerReleaseFrame, 7000, cuEGLStreamConsumerReleaseFrame)                      \
    X(cuEGLStreamProducerConnect, 7000, cuEGLStreamProducerConnect)                                \
    X(cuEGLStreamProducerDisconnect, 7000, cuEGLStreamProducerDisconnect)                          \
    X(cuEGLStreamProducerPresentFrame, 7000, cuEGLStreamProducerPresentFrame)                      \
    X(cuEGLStreamProducerReturnFrame, 7000, cuEGLStreamProducerReturnFrame)                        \
    X(cuEventCreateFromEGLSync, 9000, cuEventCreateFromEGLSync)                                    \
    X(cuExternalMemoryGetMappedBuffer, 10000, cuExternalMemoryGetMappedBuffer)                     \
    X(cuExternalMemoryGetMappedMipmappedArray, 10000, cuExternalMemoryGetMappedMipmappedArray)     \
    X(cuFlushGPUDirectRDMAWrites, 11030, cuFlushGPUDirectRDMAWrites)                               \
    X(cuFuncGetAttribute, 2020, cuFuncGetAttribute)                                                \
    X(cuFuncGetModule, 11000, cuFuncGetModule)                                                     \
    X(cuFuncGetName, 12030, cuFuncGetName)                                                         \
    X(cuFuncGetParamInfo, 12040, cuFuncGetParamInfo)                                               \
    X(cuFuncIsLoaded, 12040, cuFuncIsLoaded)                                                       \
    X(cuFuncLoad, 12040, cuFuncLoad)                                                               \
    X(cuFuncSetAttribute, 9000, cuFuncSetAttribute)                                                \
    X(cuFuncSetCacheConfig, 3000, cuFuncSetCacheConfig)                                            \
    X(cuFuncSetSharedMemConfig, 4020, cuFuncSetSharedMemConfig)                                    \
    X(cuGLCtxCreate, 2000, cuGLCtxCreate)                                                          \
    X(cuGLCtxCreate, 3020, cuGLCtxCreate_v2)                                                       \
    X(cuGLGetDevices, 4010, cuGLGetDevices)                                                        \
    X(cuGLGetDevices, 6050, cuGLGetDevices_v2)                                                     \
    X(cuGLInit, 2000, cuGLInit)                                                                    \
    X(cuGLRegisterBufferObject, 2000, cuGLRegisterBufferObject)                                    \
    X(cuGLSetBufferObjectMapFlags, 2030, cuGLSetBufferObjectMapFlags)                              \
    X(cuGLUnmapBufferObject, 2000, cuGLUnmapBufferObject)                                          \
    X(cuGLUnmapBufferObjectAsync, 2030, cuGLUnmapBufferObjectAsync)                                \
    X(cuGLUnregisterBufferObject, 2000, cuGLUnregisterBufferObject)                                \
    X(cuGraphAddBatchMemOpNode, 11070, cuGraphAddBatchMemOpNode)                                   \
    X(cuGraphAddChildGraphNode, 10000, cuGraphAddChildGraphNode)                                   \
    X(cuGraphAddEventRecordNode, 11010, cuGraphAddEventRecordNode)                                 \
    X(cuGraphAddEventWaitNode, 11010, cuGraphAddEventWaitNode)                                     \
    X(cuGraphAddExternalSemaphoresSignalNode, 11020, cuGraphAddExternalSemaphoresSignalNode)       \
    X(cuGraphAddExternalSemaphoresWaitNode, 11020, cuGraphAddExternalSemaphoresWaitNode)           \
    X(cuGraphBatchMemOpNodeGetParams, 11070, cuGraphBatchMemOpNodeGetParams)                       \
    X(cuGraphBatchMemOpNodeSetParams, 11070, cuGraphBatchMemOpNodeSetParams)                       \
    X(cuGraphChildGraphNodeGetGraph, 10000, cuGraphChildGraphNodeGetGraph)                         \
    X(cuGraphConditionalHandleCreate, 12030, cuGraphConditionalHandleCreate)                       \
    X(cuGraphDebugDotPrint, 11030, cuGraphDebugDotPrint)                                           \
    X(cuGraphEventRecordNodeGetEvent, 11010, cuGraphEventRecordNodeGetEvent)                       \
    X(cuGraphEventRecordNodeSetEvent, 11010, cuGraphEventRecordNodeSetEvent)                       \
    X(cuGraphEventWaitNodeGetEvent, 11010, cuGraphEventWaitNodeGetEvent)                           \
    X(cuGraphEventWaitNodeSetEvent, 11010, cuGraphEventWaitNodeSetEvent)                           \
    X(cuGraphExecBatchMemOpNodeSetParams, 11070, cuGraphExecBatchMemOpNodeSetParams)               \
    X(cuGraphExecChildGraphNodeSetParams, 11010, cuGraphExecChildGraphNodeSetParams)               \
    X(cuGraphExecEventRecordNodeSetEvent, 11010, cuGraphExecEventRecordNodeSetEvent)               \
    X(cuGraphExecEventWaitNodeSetEvent, 11010, cuGraphExecEventWaitNodeSetEvent)                   \
    X(cuGraphExecExternalSemaphoresSignalNodeSetParams, 11020,                                     \
      cuGraphExecExternalSemaphoresSignalNodeSetParams)                                            \
    X(cuGraphExecExternalSemaphoresWaitNodeSetParams, 11020,                                       \
      cuGraphExecExternalSemaphoresWaitNodeSetParams)                                              \
    X(cuGraphExecHostNodeSetParams, 10020, cuGraphExecHostNodeSetParams)                           \
    X(cuGraphExecKernelNodeSetParams, 10010, cuGraphExecKernelNodeSetParams)                       \
    X(cuGraphExecKernelNodeSetParams, 12000, cuGraphExecKernelNodeSetParams_v2)                    \
    X(cuGraphExecMemcpyNodeSetParams, 10020, cuGraphExecMemcpyNodeSetParams)                       \
    X(cuGraphExecMemsetNodeSetParams, 10020, cuGraphExecMemsetNodeSetParams)                       \
    X(cuGraphExecNodeSetParams, 12020, cuGraphExecNodeSetParams)                                   \
    X(cuGraphExecUpdate, 10020, cuGraphExecUpdate)                                                 \
    X(cuGraphExecUpdate, 12000, cuGraphExecUpdate_v2)                                              \
    X(cuGraphExternalSemaphoresSignalNodeGetParams, 11020,                                         \
      cuGraphExternalSemaphoresSignalNodeGetParams)                                                \
    X(cuGraphExternalSemaphoresSignalNodeSetParams, 11020,                                         \
      cuGraphExternalSemaphoresSignalNodeSetParams)                                                \
    X(cuGraphExternalSemaphoresWaitNodeGetParams, 11020,                                           \
      cuGraphExternalSemaphoresWaitNodeGetParams)                                                  \
    X(cuGraphExternalSemaphoresWaitNodeSetParams, 11020,                                           \
      cuGraphExternalSemaphoresWaitNodeSetParams)                                                  \
    X(cuGraphGetEdges, 10000, cuGraphGetEdges)                                                     \
    X(cuGraphGetEdges, 12030, cuGraphGetEdges_v2)                                                  \
    X(cuGraphGetRootNodes, 10000, cuGraphGetRootNodes)                                             \
    X(cuGraphHostNodeGetParams, 10000, cuGraphHostNodeGetParams)                                   \
    X(cuGraphHostNodeSetParams, 10000, cuGraphHostNodeSetParams)                                   \
    X(cuGraphKernelNodeCopyAttributes, 11000, cuGraphKernelNodeCopyAttributes)                     \
    X(cuGraphKernelNodeGetAttribute, 11000, cuGraphKernelNodeGetAttribute)                         \
    X(cuGraphKernelNodeGetParams, 10000, cuGraphKernelNodeGetParams)                               \
    X(cuGraphKernelNodeGetParams, 12000, cuGraphKernelNodeGetParams_v2)                            \
    X(cuGraphKernelNodeSetAttribute, 11000, cuGraphKernelNodeSetAttribute)                         \
    X(cuGraphKernelNodeSetParams, 10000, cuGraphKernelNodeSetParams)                               \
    X(cuGraphKernelNodeSetParams, 12000, cuGraphKernelNodeSetParams_v2)                            \
    X(cuGraphMemcpyNodeGetParams, 10000, cuGraphMemcpyNodeGetParams)                               \
    X(cuGraphMemcpyNodeSetParams, 10000, cuGraphMemcpyNodeSetParams)                               \
    X(cuGraphMemsetNodeGetParams, 10000, cuGraphMemsetNodeGetParams)                               \
    X(cuGraphMemsetNodeSetParams, 10000, cuGraphMemsetNodeSetParams)                               \
    X(cuGraphNodeFindInClone, 10000, cuGraphNodeFindInClone)                                       \
    X(cuGraphNodeGetDependencies, 10000, cuGraphNodeGetDependencies)                               \
    X(cuGraphNodeGetDependencies, 12030, cuGraphNodeGetDependencies_v2)                            \
    X(cuGraphNodeGetDependentNodes, 10000, cuGraphNodeGetDependentNodes)                           \
    X(cuGraphNodeGetDependentNodes, 12030, cuGraphNodeGetDependentNodes_v2)                        \
    X(cuGraphNodeGetEnabled, 11060, cuGraphNodeGetEnabled)                                         \
    X(cuGraphNodeSetEnabled, 11060, cuGraphNodeSetEnabled)                                         \
    X(cuGraphNodeSetParams, 12020, cuGraphNodeSetParams)                                           \
    X(cuGraphReleaseUserObject, 11030, cuGraphReleaseUserObject)                                   \
    X(cuGraphRemoveDependencies, 10000, cuGraphRemoveDependencies)                                 \
    X(cuGraphRemoveDependencies, 12030, cuGraphRemoveDependencies_v2)                              \
    X(cuGraphRetainUserObject, 11030, cuGraphRetainUserObject)                                     \
    X(cuGraphicsEGLRegisterImage, 7000, cuGraphicsEGLRegisterImage)                                \
    X(cuGraphicsGLRegisterBuffer, 3000, cuGraphicsGLRegisterBuffer)                                \
    X(cuGraphicsGLRegisterImage, 3000, cuGraphicsGLRegisterImage)                                  \
    X(cuGraphicsResourceGetMappedEglFrame, 7000, cuGraphicsResourceGetMappedEglFrame)              \
    X(cuGraphicsResourceGetMappedMipmappedArray, 5000, cuGraphicsResourceGetMappedMipmappedArray)  \
    X(cuGraphicsResourceGetMappedPointer, 3000, cuGraphicsResourceGetMappedPointer)                \
    X(cuGraphicsResourceGetMappedPointer, 3020, cuGraphicsResourceGetMappedPointer_v2)             \
    X(cuGraphicsResourceSetMapFlags, 3000, cuGraphicsResourceSetMapFlags)                          \
    X(cuGraphicsResourceSetMapFlags, 6050, cuGraphicsResourceSetMapFlags_v2)                       \
    X(cuGraphicsSubResourceGetMappedArray, 3000, cuGraphicsSubResourceGetMappedArray)              \
    X(cuGraphicsUnregisterResource, 3000, cuGraphicsUnregisterResource)                            \
    X(cuGraphicsVDPAURegisterOutputSurface, 3010, cuGraphicsVDPAURegisterOutputSurface)            \
    X(cuGraphicsVDPAURegisterVideoSurface, 3010, cuGraphicsVDPAURegisterVideoSurface)              \
    X(cuGreenCtxCreate, 12040, cuGreenCtxCreate)                                                   \
    X(cuGreenCtxDestroy, 12040, cuGreenCtxDestroy)                                                 \
    X(cuGreenCtxGetDevResource, 12040, cuGreenCtxGetDevResource)                                   \
    X(cuGreenCtxGetId, 12090, cuGreenCtxGetId)                                                     \
    X(cuGreenCtxRecordEvent, 12040, cuGreenCtxRecordEvent)                                         \
    X(cuGreenCtxStreamCreate, 12050, cuGreenCtxStreamCreate)                                       \
    X(cuGreenCtxWaitEvent, 12040, cuGreenCtxWaitEvent)                                             \
    X(cuImportExternalMemory, 10000, cuImportExternalMemory)                                       \
    X(cuImportExternalSemaphore, 10000, cuImportExternalSemaphore)                                 \
    X(cuKernelGetAttribute, 12000, cuKernelGetAttribute)                                           \
    X(cuKernelGetFunction, 12000, cuKernelGetFunction)                                             \
    X(cuKernelGetLibrary, 12050, cuKernelGetLibrary)                                               \
    X(cuKernelGetName, 12030, cuKernelGetName)                                                     \
    X(cuKernelGetParamInfo, 12040, cuKernelGetParamInfo)                                           \
    X(cuKernelSetAttribute, 12000, cuKernelSetAttribute)                                           \
    X(cuKernelSetCacheConfig, 12000, cuKernelSetCacheConfig)                                       \
    X(cuLaunchCooperativeKernelMultiDevice, 9000, cuLaunchCooperativeKernelMultiDevice)            \
    X(cuLibraryEnumerateKernels, 12040, cuLibraryEnumerateKernels)                                 \
    X(cuLibraryGetGlobal, 12000, cuLibraryGetGlobal)                                               \
    X(cuLibraryGetKernel, 12000, cuLibraryGetKernel)                                               \
    X(cuLibraryGetKernelCount, 12040, cuLibraryGetKernelCount)                                     \
    X(cuLibraryGetManaged, 12000, cuLibraryGetManaged)                                             \
    X(cuLibraryGetModule, 12000, cuLibraryGetModule)                                               \
    X(cuLibraryGetUnifiedFunction, 12000, cuLibraryGetUnifiedFunction)                             \
    X(cuLibraryLoadData, 12000, cuLibraryLoadData)                                                 \
    X(cuLibraryLoadFromFile, 12000, cuLibraryLoadFromFile)                                         \
    X(cuLibraryUnload, 12000, cuLibraryUnload)                                                     \
    X(cuLinkAddData, 5050, cuLinkAddData)                                                          \
    X(cuLinkAddData, 6050, cuLinkAddData_v2)                                                       \
    X(cuLinkAddFile, 5050, cuLinkAddFile)                                                          \
    X(cuLinkAddFile, 6050, cuLinkAddFile_v2)                                                       \
    X(cuLinkComplete, 5050, cuLinkComplete)                                                        \
    X(cuLinkCreate, 5050, cuLinkCreate)                                                            \
    X(cuLinkCreate, 6050, cuLinkCreate_v2)                                                         \
    X(cuLinkDestroy, 5050, cuLinkDestroy)                                                          \
    X(cuLogsCurrent, 12090, cuLogsCurrent)                                                         \
    X(cuLogsDumpToFile, 12090, cuLogsDumpToFile)                                                   \
    X(cuLogsDumpToMemory, 12090, cuLogsDumpToMemory)                                               \
    X(cuLogsRegisterCallback, 12090, cuLogsRegisterCallback)                                       \
    X(cuLogsUnregisterCallback, 12090, cuLogsUnregisterCallback)                                   \
    X(cuMemGetHandleForAddressRange, 11070, cuMemGetHandleForAddressRange)                         \
    X(cuMipmappedArrayGetSparseProperties, 11010, cuMipmappedArrayGetSparseProperties)             \
    X(cuModuleEnumerateFunctions, 12040, cuModuleEnumerateFunctions)                               \
    X(cuModuleGetFunctionCount, 12040, cuModuleGetFunctionCount)                                   \
    X(cuModuleGetGlobal, 2000, cuModuleGetGlobal)                                                  \
    X(cuModuleGetGlobal, 3020, cuModuleGetGlobal_v2)                                               \
    X(cuModuleGetSurfRef, 3000, cuModuleGetSurfRef)                                                \
    X(cuModuleGetTexRef, 2000, cuModuleGetTexRef)                                                  \
    X(cuModuleLoadFatBinary, 2000, cuModuleLoadFatBinary)                                          \
    X(cuMulticastAddDevice, 12010, cuMulticastAddDevice)                                           \
    X(cuMulticastBindAddr, 12010, cuMulticastBindAddr)                                             \
    X(cuMulticastBindMem, 12010, cuMulticastBindMem)                                               \
    X(cuMulticastCreate, 12010, cuMulticastCreate)                                                 \
    X(cuMulticastGetGranularity, 12010, cuMulticastGetGranularity)                                 \
    X(cuMulticastUnbind, 12010, cuMulticastUnbind)                                                 \
    X(cuOccupancyAvailableDynamicSMemPerBlock, 10020, cuOccupancyAvailableDynamicSMemPerBlock)     \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessor, 6050,                                           \
      cuOccupancyMaxActiveBlocksPerMultiprocessor)                                                 \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, 7000,                                  \
      cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)                                        \
    X(cuOccupancyMaxActiveClusters, 11070, cuOccupancyMaxActiveClusters)                           \
    X(cuOccupancyMaxPotentialBlockSize, 6050, cuOccupancyMaxPotentialBlockSize)                    \
    X(cuOccupancyMaxPotentialBlockSizeWithFlags, 7000, cuOccupancyMaxPotentialBlockSizeWithFlags)  \
    X(cuOccupancyMaxPotentialClusterSize, 11070, cuOccupancyMaxPotentialClusterSize)               \
    X(cuPointerSetAttribute, 6000, cuPointerSetAttribute)                                          \
    X(cuProfilerInitialize, 4000, cuProfilerInitialize)                                            \
    X(cuStreamGetGreenCtx, 12040, cuStreamGetGreenCtx)                                             \
    X(cuSurfObjectCreate, 5000, cuSurfObjectCreate)                                                \
    X(cuSurfObjectDestroy, 5000, cuSurfObjectDestroy)                                              \
    X(cuSurfObjectGetResourceDesc, 5000, cuSurfObjectGetResourceDesc)                              \
    X(cuTexObjectCreate, 5000, cuTexObjectCreate)                                                  \
    X(cuTexObjectDestroy, 5000, cuTexObjectDestroy)                                                \
    X(cuTexObjectGetResourceDesc, 5000, cuTexObjectGetResourceDesc)                                \
    X(cuTexObjectGetResourceViewDesc, 5000, cuTexObjectGetResourceViewDesc)                        \
    X(cuTexObjectGetTextureDesc, 5000, cuTexObjectGetTextureDesc)                                  \
    X(cuUserObjectCreate, 11030, cuUserObjectCreate)                                               \
    X(cuUserObjectRelease, 11030, cuUserObjectRelease)                                             \
    X(cuUserObjectRetain, 11030, cuUserObjectRetain)                                               \
    X(cuVDPAUCtxCreate, 3010, cuVDPAUCtxCreate)                                                    \
    X(cuVDPAUCtxCreate, 3020, cuVDPAUCtxCreate_v2)                                                 \
    X(cuVDPAUGetDevice, 3010, cuVDPAUGetDevice)

/* And the form for the thread's own stream. */
#define CUDA_REFUSED_STREAM_MAP(X)                                                                 \
    X(cuGLMapBufferObject, 2000, cuGLMapBufferObject, cuGLMapBufferObject_ptds)                    \
    X(cuGLMapBufferObject, 3020, cuGLMapBufferObject_v2, cuGLMapBufferObject_v2_ptds)              \
    X(cuGLMapBufferObjectAsync, 2030, cuGLMapBufferObjectAsync, cuGLMapBufferObjectAsync_ptsz)     \
    X(cuGLMapBufferObjectAsync, 3020, cuGLMapBufferObjectAsync_v2,                                 \
      cuGLMapBufferObjectAsync_v2_ptsz)                                                            \
    X(cuGraphicsMapResources, 3000, cuGraphicsMapResources, cuGraphicsMapResources_ptsz)           \
    X(cuGraphicsUnmapResources, 3000, cuGraphicsUnmapResources, cuGraphicsUnmapResources_ptsz)     \
    X(cuLaunchCooperativeKernel, 9000, cuLaunchCooperativeKernel, cuLaunchCooperativeKernel_ptsz)  \
    X(cuLaunchKernelEx, 11060, cuLaunchKernelEx, cuLaunchKernelEx_ptsz)                            \
    X(cuMemBatchDecompressAsync, 12060, cuMemBatchDecompressAsync, cuMemBatchDecompressAsync_ptsz) \
    X(cuMemDiscardAndPrefetchBatchAsync, 13000, cuMemDiscardAndPrefetchBatchAsync,                 \
      cuMemDiscardAndPrefetchBatchAsync_ptsz)                                                      \
    X(cuMemDiscardBatchAsync, 13000, cuMemDiscardBatchAsync, cuMemDiscardBatchAsync_ptsz)          \
    X(cuMemMapArrayAsync, 11010, cuMemMapArrayAsync, cuMemMapArrayAsync_ptsz)                      \
    X(cuMemPrefetchBatchAsync, 13000, cuMemPrefetchBatchAsync, cuMemPrefetchBatchAsync_ptsz)       \
    X(cuMemcpy3DBatchAsync, 12080, cuMemcpy3DBatchAsync, cuMemcpy3DBatchAsync_ptsz)                \
    X(cuMemcpy3DBatchAsync, 13000, cuMemcpy3DBatchAsync_v2, cuMemcpy3DBatchAsync_v2_ptsz)          \
    X(cuMemcpy3DPeer, 4000, cuMemcpy3DPeer, cuMemcpy3DPeer_ptds)                                   \
    X(cuMemcpy3DPeerAsync, 4000, cuMemcpy3DPeerAsync, cuMemcpy3DPeerAsync_ptsz)                    \
    X(cuMemcpyBatchAsync, 12080, cuMemcpyBatchAsync, cuMemcpyBatchAsync_ptsz)                      \
    X(cuMemcpyBatchAsync, 13000, cuMemcpyBatchAsync_v2, cuMemcpyBatchAsync_v2_ptsz)                \
    X(cuSignalExternalSemaphoresAsync, 10000, cuSignalExternalSemaphoresAsync,                     \
      cuSignalExternalSemaphoresAsync_ptsz)                                                        \
    X(cuStreamBatchMemOp, 11070, cuStreamBatchMemOp_v2, cuStreamBatchMemOp_v2_ptsz)                \
    X(cuStreamBatchMemOp, 8000, cuStreamBatchMemOp, cuStreamBatchMemOp_ptsz)                       \
    X(cuStreamBeginCapture, 10000, cuStreamBeginCapture, cuStreamBeginCapture_ptsz)                \
    X(cuStreamBeginCapture, 10010, cuStreamBeginCapture_v2, cuStreamBeginCapture_v2_ptsz)          \
    X(cuStreamBeginCaptureToGraph, 12030, cuStreamBeginCaptureToGraph,                             \
      cuStreamBeginCaptureToGraph_ptsz)                                                            \
    X(cuStreamCopyAttributes, 11000, cuStreamCopyAttributes, cuStreamCopyAttributes_ptsz)          \
    X(cuStreamEndCapture, 10000, cuStreamEndCapture, cuStreamEndCapture_ptsz)                      \
    X(cuStreamGetAttribute, 11000, cuStreamGetAttribute, cuStreamGetAttribute_ptsz)                \
    X(cuStreamSetAttribute, 11000, cuStreamSetAttribute, cuStreamSetAttribute_ptsz)                \
    X(cuStreamUpdateCaptureDependencies, 11030, cuStreamUpdateCaptureDependencies,                 \
      cuStreamUpdateCaptureDependencies_ptsz)                                                      \
    X(cuStreamUpdateCaptureDependencies, 12030, cuStreamUpdateCaptureDependencies_v2,              \
      cuStreamUpdateCaptureDependencies_v2_ptsz)                                                   \
    X(cuStreamWaitValue32, 11070, cuStreamWaitValue32_v2, cuStreamWaitValue32_v2_ptsz)             \
    X(cuStreamWaitValue32, 8000, cuStreamWaitValue32, cuStreamWaitValue32_ptsz)                    \
    X(cuStreamWaitValue64, 11070, cuStreamWaitValue64_v2, cuStreamWaitValue64_v2_ptsz)             \
    X(cuStreamWaitValue64, 9000, cuStreamWaitValue64, cuStreamWaitValue64_ptsz)                    \
    X(cuStreamWriteValue32, 11070, cuStreamWriteValue32_v2, cuStreamWriteValue32_v2_ptsz)          \
    X(cuStreamWriteValue32, 8000, cuStreamWriteValue32, cuStreamWriteValue32_ptsz)                 \
    X(cuStreamWriteValue64, 11070, cuStreamWriteValue64_v2, cuStreamWriteValue64_v2_ptsz)          \
    X(cuStreamWriteValue64, 9000, cuStreamWriteValue64, cuStreamWriteValue64_ptsz)                 \
    X(cuWaitExternalSemaphoresAsync, 10000, cuWaitExternalSemaphoresAsync,                         \
      cuWaitExternalSemaphoresAsync_ptsz)

#define X(name, since, symbol) CUDA_API CUresult symbol(void);
CUDA_REFUSED_MAP(X)
#undef X
#define X(name, since, symbol, per_thread)                                                         \
    CUDA_API CUresult symbol(void);                                                                \
    CUDA_API CUresult per_thread(void);
CUDA_REFUSED_STREAM_MAP(X)
#undef X

/* NOLINTEND(readability-identifier-naming) */

#endif
