// Python door to the recogniser's networks and features.
#include "module.h"

void bind_speech_net(nb::module_&) {}
