/* Stands in for NVRTC in tests: "compiles" into a text that the forged libcuda takes. */
#include <dlfcn.h>
#include <string.h>
static char target[64];
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 2; return 0; }
const char *nvrtcGetErrorString(int code) { return code == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
int nvrtcGetNumSupportedArchs(int *count) {
#ifdef LIES
    *count = -1;
#else
    *count = 3;
#endif
    return 0;
}
int nvrtcGetSupportedArchs(int *list) { list[0] = 80; list[1] = 90; list[2] = 100; return 0; }
int nvrtcCreateProgram(void **program, const char *source, const char *name, int headers, const char **texts, const char **names) {
    if (!strstr(source, "sconce_saxpy") || headers) return 2;
    *program = (void *)5ul;
    return 0;
}
int nvrtcDestroyProgram(void **program) { *program = 0; return 0; }
int nvrtcCompileProgram(void *program, int count, const char **options) {
    if (count != 1 || strncmp(options[0], "--gpu-architecture=", 19)) return 5;
    strcpy(target, options[0] + 19);
#ifdef BUILTINS
    if (!dlopen("libnvrtc-builtins.so.13.2", RTLD_NOW)) return 6;
#endif
#ifdef BROKEN
    return 6;
#endif
    return 0;
}
int nvrtcGetProgramLogSize(void *program, size_t *size) { *size = 12; return 0; }
int nvrtcGetProgramLog(void *program, char *log) { memcpy(log, "no builtins", 12); return 0; }
/* A cubin has no NUL behind it; PTX counts its own. */
int nvrtcGetCUBINSize(void *program, size_t *size) {
#ifdef HUGE
    *size = (size_t)1 << 60;
#else
    *size = 9 + strlen(target);
#endif
    return 0;
}
int nvrtcGetCUBIN(void *program, char *code) { memcpy(code, "code for ", 9); memcpy(code + 9, target, strlen(target)); return 0; }
int nvrtcGetPTXSize(void *program, size_t *size) { *size = 8 + strlen(target) + 1; return 0; }
int nvrtcGetPTX(void *program, char *code) { memcpy(code, "ptx for ", 8); strcpy(code + 8, target); return 0; }
