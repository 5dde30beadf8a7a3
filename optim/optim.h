#pragma once

#include <optim/adam.h>
#include <optim/checkpoint.h>
#include <optim/clip.h>
#include <optim/early_stopping.h>
#include <optim/mean.h>
#include <optim/metrics.h>
#include <optim/optimizer.h>
#include <optim/progress.h>
#include <optim/sgd.h>
#include <optim/stateful.h>
