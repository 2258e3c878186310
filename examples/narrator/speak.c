/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "narrator.h"

int narrator_open(struct narrator *narrator, const char *diary_path, uint64_t model_bytes,
                  struct error *err)
{
    int r = voice_open(&narrator->voice);
    if (r < 0)
        return error_set(err, r, "start the voice: %s", strerror(-r));
    r = diary_open(&narrator->diary, diary_path);
    if (r < 0)
        return error_set(err, r, "%s: %s", diary_path, strerror(-r));
    r = gpu_open(&narrator->gpu, err);
    return r == 0 ? model_load(&narrator->model, narrator->gpu, model_bytes, err) : r;
}

void narrator_close(struct narrator *narrator)
{
    model_unload(&narrator->model);
    gpu_close(narrator->gpu);
    narrator->gpu = NULL;
    diary_close(&narrator->diary);
    voice_close(&narrator->voice);
}

/* The voice speaks while the working memory is held; what it needs is there from first to last. */
static int speak_with_memory(struct narrator *narrator, const char *text, const char *out,
                             struct voice_result *ret_result, struct error *err)
{
    int r = voice_begin(&narrator->voice, text, out);
    if (r < 0)
        return error_set(err, r, "give the sentence to the voice: %s", strerror(-r));
    r = voice_end(&narrator->voice, ret_result);
    if (r < 0)
        return error_set(err, r, "the voice is gone: %s", strerror(-r));
    if (ret_result->failure[0])
        return error_set(err, -EIO, "%s", ret_result->failure);
    return model_work_check(&narrator->model, err);
}

int narrator_speak(struct narrator *narrator, const char *text, const char *out,
                   struct voice_result *ret_result, struct error *err)
{
    uint64_t work_bytes = model_work_bytes(strlen(text), narrator->work_bytes);
    int r = model_work_begin(&narrator->model, work_bytes, err);
    if (r != 0)
        return r;
    r = speak_with_memory(narrator, text, out, ret_result, err);
    int ended = model_work_end(&narrator->model, r < 0 ? NULL : err);
    return r < 0 ? r : ended;
}
