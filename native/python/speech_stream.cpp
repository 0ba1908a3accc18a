// Python door to whole recognition streams.
#include "module.h"

void bind_speech_stream(nb::module_&) {}
