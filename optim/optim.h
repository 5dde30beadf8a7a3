#pragma once

#include <optim/adam.h>
#include <optim/clip.h>
#include <optim/optimizer.h>
#include <optim/sgd.h>
