/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define LEAST_WORK_BYTES (UINT64_C(64) << 20)
#define LONGEST_TEXT     UINT64_C(220) /* characters that take all of the working memory */
#define CHECKED_CHUNKS   4             /* checked with each segment, in turn */

static uint64_t whole_steps(uint64_t bytes)
{
    return bytes - bytes % CANARY_STEP_BYTES;
}

/* Different for each process and chunk, so that a neighbour's canary is never taken for ours. */
static uint64_t seed_of(size_t chunk)
{
    return ((uint64_t)getpid() << 20) ^ (chunk + 1);
}

/* Chunks until the model has all of bytes; the last is smaller. */
static int take_chunks(struct model *model, uint64_t bytes, struct error *err)
{
    while (bytes > 0) {
        uint64_t chunk_bytes = bytes < MODEL_CHUNK_BYTES ? bytes : MODEL_CHUNK_BYTES;
        if (model->chunk_count == MODEL_CHUNK_MAX)
            return error_set(err, -E2BIG, "a model of more than %d chunks", MODEL_CHUNK_MAX);
        int r = canary_alloc(model->gpu, chunk_bytes, seed_of(model->chunk_count),
                             &model->chunks[model->chunk_count], err);
        if (r == GPU_REFUSED)
            model->refused_bytes = chunk_bytes;
        if (r != 0)
            return r;
        model->chunk_count++;
        bytes -= chunk_bytes;
    }
    return 0;
}

static int free_chunks(struct model *model, struct error *err)
{
    int r = 0;
    while (r == 0 && model->chunk_count > 0)
        r = canary_free(model->gpu, &model->chunks[--model->chunk_count], err);
    return r;
}

int model_load(struct model *model, struct gpu *gpu, uint64_t bytes, struct error *err)
{
    *model = (struct model){ .gpu = gpu };
    int r = take_chunks(model, whole_steps(bytes), err);
    for (size_t i = 0; r == 0 && i < model->chunk_count; i++)
        r = canary_write(gpu, &model->chunks[i], err);
    return r;
}

void model_unload(struct model *model)
{
    if (!model->gpu)
        return;
    canary_free(model->gpu, &model->work, NULL);
    free_chunks(model, NULL);
}

int model_work_begin(struct model *model, uint64_t bytes, struct error *err)
{
    int r = canary_alloc(model->gpu, bytes, seed_of(MODEL_CHUNK_MAX), &model->work, err);
    if (r == GPU_REFUSED)
        model->refused_bytes = bytes;
    return r == 0 ? canary_write(model->gpu, &model->work, err) : r;
}

int model_work_check(struct model *model, struct error *err)
{
    int r = canary_check(model->gpu, &model->work, err);
    for (size_t i = 0; r == 0 && i < CHECKED_CHUNKS && i < model->chunk_count; i++) {
        model->check_at = (model->check_at + 1) % model->chunk_count;
        r = canary_check(model->gpu, &model->chunks[model->check_at], err);
    }
    return r;
}

int model_work_end(struct model *model, struct error *err)
{
    return canary_free(model->gpu, &model->work, err);
}

int model_check(struct model *model, struct error *err)
{
    for (size_t i = 0; i < model->chunk_count; i++) {
        int r = canary_check(model->gpu, &model->chunks[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The canaries are all that this model is made of, so they are what is carried. */
static int save_chunks(struct model *model, uint8_t *image, struct error *err)
{
    for (size_t i = 0; i < model->chunk_count; i++) {
        int r = canary_save(model->gpu, &model->chunks[i], image, err);
        if (r < 0)
            return r;
        image += canary_pages_bytes(&model->chunks[i]);
    }
    return 0;
}

static int restore_chunks(struct model *model, const uint8_t *image, struct error *err)
{
    for (size_t i = 0; i < model->chunk_count; i++) {
        int r = canary_restore(model->gpu, &model->chunks[i], image, err);
        if (r < 0)
            return r;
        image += canary_pages_bytes(&model->chunks[i]);
    }
    return 0;
}

int model_flush(struct model *model, struct error *err)
{
    size_t image_bytes = 0;
    uint64_t device_bytes = 0;
    for (size_t i = 0; i < model->chunk_count; i++) {
        image_bytes += canary_pages_bytes(&model->chunks[i]);
        device_bytes += model->chunks[i].bytes;
    }
    OWNED(freep) uint8_t *image = malloc(image_bytes + 1);
    if (!image)
        return error_set(err, -ENOMEM, "no host memory for the model");
    int r = save_chunks(model, image, err);
    if (r == 0)
        r = free_chunks(model, err);
    if (r == 0)
        r = gpu_renew(model->gpu, err);
    if (r == 0)
        r = take_chunks(model, device_bytes, err);
    if (r == 0)
        r = restore_chunks(model, image, err);
    return r == 0 ? model_check(model, err) : r;
}

uint64_t model_work_bytes(size_t text_bytes, uint64_t most_bytes)
{
    uint64_t length = text_bytes < LONGEST_TEXT ? text_bytes : LONGEST_TEXT;
    uint64_t steps = most_bytes / CANARY_STEP_BYTES;
    uint64_t bytes = steps * length * length / (LONGEST_TEXT * LONGEST_TEXT) * CANARY_STEP_BYTES;
    if (bytes < LEAST_WORK_BYTES)
        bytes = LEAST_WORK_BYTES;
    return bytes < most_bytes ? bytes : whole_steps(most_bytes);
}
